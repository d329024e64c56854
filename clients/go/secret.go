package secretbroker

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

// A Secret is a version of a secret with all that says how far it can be trusted.
//
// It is immutable and may be shared between goroutines, until it is closed. Its values are wiped when it is closed, or
// else when the garbage collector finds it unreachable.
type Secret struct {
	version
	name      string
	issuedAt  time.Time
	expiresAt time.Time
	ends      time.Time // carries the monotonic clock
	freshness Freshness
	previous  *Previous
}

// A Previous is the version before, while it is still accepted.
type Previous struct {
	version
	validUntil time.Time
	ends       time.Time // the same by the monotonic clock, as far as it can be told
}

// Freshness says whether the source of a secret still confirms it.
type Freshness struct {
	// Stale is true when the source could not be asked or did not answer; the value is within its limit.
	Stale bool
	// Reason is why it is stale.
	Reason Reason
	// For is how long it had been stale at the time of the reply.
	For time.Duration
}

// Metadata is what is known of a secret without its value.
type Metadata struct {
	Name       string
	Category   string // such as "database"
	State      string // FRESH, ABSENT, …: the name in the contract, without its prefix
	Version    string // empty when none is held
	Generation uint64 // 0 when none is held
	IssuedAt   time.Time
	ExpiresAt  time.Time // zero when nothing ends the version
	Reason     Reason    // why the state is not FRESH
}

// Name is the name in the broker's catalogue.
func (s *Secret) Name() string { return s.name }

// IssuedAt is when the version was issued, by the broker's clock.
func (s *Secret) IssuedAt() time.Time { return s.issuedAt }

// ExpiresAt is when the version ends, by the broker's clock; zero when nothing ends it.
func (s *Secret) ExpiresAt() time.Time { return s.expiresAt }

// TimeLeft is the time left now, by this machine's monotonic clock; false when nothing ends the version.
func (s *Secret) TimeLeft() (time.Duration, bool) {
	if s.ends.IsZero() {
		return 0, false
	}
	return max(0, time.Until(s.ends)), true
}

// Freshness tells whether the source still confirms the version.
func (s *Secret) Freshness() Freshness { return s.freshness }

// Previous is the version before, while it overlaps this one; nil when there is none, or its time is over.
func (s *Secret) Previous() *Previous {
	if s.previous == nil || (!s.previous.ends.IsZero() && time.Now().After(s.previous.ends)) {
		return nil
	}
	return s.previous
}

func (s *Secret) sameVersion(other *Secret) bool {
	return other != nil && s.generation == other.generation && s.version.version == other.version.version
}

// Close wipes the values, also those of the previous version. No other goroutine may be reading them; a secret of a
// [Live] handle is shared and is not to be closed.
func (s *Secret) Close() {
	s.wipe()
	if s.previous != nil {
		s.previous.wipe()
	}
}

// ValidUntil is until when the version is accepted at the latest, by the broker's clock.
func (p *Previous) ValidUntil() time.Time { return p.validUntil }

// Format prints the secret without its values, whatever the verb.
func (s *Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// String shows the secret without its values.
func (s *Secret) String() string {
	text := fmt.Sprintf("Secret(%s %s", s.name, s.version.String())
	if s.freshness.Stale {
		text += fmt.Sprintf(" stale: %s", s.freshness.Reason)
	}
	if s.previous != nil {
		text += fmt.Sprintf(" previous: %s", s.previous.version.String())
	}
	return text + ")"
}

// LogValue shows the secret without its values.
func (s *Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON shows the secret without its values.
func (s *Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Format prints the version without its values, whatever the verb.
func (p *Previous) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// String shows the version without its values.
func (p *Previous) String() string {
	if p == nil {
		return "Previous(none)"
	}
	return fmt.Sprintf("Previous(%s)", p.version.String())
}

// LogValue shows the version without its values.
func (p *Previous) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalJSON shows the version without its values.
func (p *Previous) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// version is what a current and a previous version have in common.
type version struct {
	values     *values
	version    string
	generation uint64
}

// Field is a copy of the bytes of a field, the caller's to wipe; false when there is no such field.
func (v *version) Field(field string) ([]byte, bool) {
	defer runtime.KeepAlive(v.values)
	value, ok := v.values.load()[field]
	return slices.Clone(value), ok
}

// Text is a field as text; empty when there is no such field or it is not UTF-8. A string can't be wiped.
func (v *version) Text(field string) string {
	defer runtime.KeepAlive(v.values)
	if value := v.values.load()[field]; utf8.Valid(value) {
		return string(value)
	}
	return ""
}

// FieldNames are the names of the fields, sorted.
func (v *version) FieldNames() []string { return slices.Sorted(maps.Keys(v.values.load())) }

// Version is the version at the source; equal versions have equal values.
func (v *version) Version() string { return v.version }

// Generation grows with each new version that the broker serves.
func (v *version) Generation() uint64 { return v.generation }

func (v *version) String() string {
	return fmt.Sprintf("generation %d fields [%s]", v.generation, strings.Join(v.FieldNames(), " "))
}

func (v *version) wipe() { v.values.wipe() }

// values stands behind a pointer, so that package fmt can't reach the bytes even through unexported fields, and is
// wiped when nothing refers to it any more.
type values struct {
	held atomic.Pointer[held]
}

type held struct{ fields map[string][]byte }

// guard takes the buffers over as they are: no copy stays behind.
func guard(fields map[string][]byte) *values {
	kept := &held{fields: fields}
	guarded := &values{}
	guarded.held.Store(kept)
	runtime.AddCleanup(guarded, (*held).wipe, kept)
	return guarded
}

func (v *values) load() map[string][]byte {
	if v == nil {
		return nil
	}
	if kept := v.held.Load(); kept != nil {
		return kept.fields
	}
	return nil
}

func (v *values) wipe() {
	if kept := v.held.Swap(nil); kept != nil {
		kept.wipe()
	}
}

func (h *held) wipe() {
	for _, value := range h.fields {
		clear(value)
	}
}

func secretOf(s *brokerpb.Secret) *Secret {
	now := time.Now()
	secret := &Secret{
		version:   version{values: guard(s.GetFields()), version: s.GetVersion(), generation: s.GetGeneration()},
		name:      s.GetName(),
		issuedAt:  timeOf(s.GetIssueTime()),
		expiresAt: timeOf(s.GetExpireTime()),
		ends:      endOf(now, s.GetTimeLeft()),
	}
	if s.GetFreshness() == brokerpb.Freshness_FRESHNESS_STALE {
		secret.freshness = Freshness{
			Stale: true, Reason: reasonOf(s.GetStaleReason()), For: s.GetStaleFor().AsDuration(),
		}
	}
	if previous := s.GetPrevious(); previous != nil {
		secret.previous = &Previous{
			version: version{
				values: guard(previous.GetFields()), version: previous.GetVersion(), generation: previous.GetGeneration(),
			},
			validUntil: timeOf(previous.GetValidUntil()),
		}
		secret.previous.ends = previousEnd(now, secret)
	}
	return secret
}

// previousEnd tells when the previous version ends by this machine's monotonic clock. The broker's clock at the time
// of the reply follows from when the current version ends and the time left to it, which is rounded down by up to a
// second; where nothing ends the current version, both clocks are taken to agree.
func previousEnd(now time.Time, s *Secret) time.Time {
	if s.previous.validUntil.IsZero() {
		return time.Time{}
	}
	brokerNow := now
	if !s.ends.IsZero() && !s.expiresAt.IsZero() {
		brokerNow = s.expiresAt.Add(-s.ends.Sub(now))
	}
	return now.Add(s.previous.validUntil.Sub(brokerNow) + time.Second)
}

func metadataOf(m *brokerpb.SecretMetadata) Metadata {
	return Metadata{
		Name:       m.GetName(),
		Category:   m.GetCategory(),
		State:      strings.TrimPrefix(m.GetState().String(), "SECRET_STATE_"),
		Version:    m.GetVersion(),
		Generation: m.GetGeneration(),
		IssuedAt:   timeOf(m.GetIssueTime()),
		ExpiresAt:  timeOf(m.GetExpireTime()),
		Reason:     reasonOf(m.GetReason()),
	}
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func endOf(now time.Time, left *durationpb.Duration) time.Time {
	if left == nil {
		return time.Time{}
	}
	return now.Add(left.AsDuration())
}
