package secretbroker

import (
	"maps"
	"slices"

	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

// An EventType says what happened to a watched secret.
type EventType string

// What can happen to a watched secret.
const (
	// Current is the version that is current when the watch begins to see this secret.
	Current EventType = "CURRENT"
	// Rotated says that a new version is served, also one that came while the connection was lost.
	Rotated EventType = "ROTATED"
	// Renewed says that the same version ends later.
	Renewed EventType = "RENEWED"
	// Expiring says that the version ends soon, and no successor could be had yet.
	Expiring EventType = "EXPIRING"
	// Stale says that the source could not confirm the version when it was due.
	Stale EventType = "STALE"
	// Recovered says that the source confirms the version again.
	Recovered EventType = "RECOVERED"
	// Revoked says that the value must not be used any more.
	Revoked EventType = "REVOKED"
	// Unavailable says that no value can be had now; the next one comes as Current.
	Unavailable EventType = "UNAVAILABLE"
)

// An Event says what happened to a watched secret, and carries its full state.
type Event struct {
	Type EventType
	Name string
	// Secret is the state, where a value can be had: nil for Revoked and Unavailable.
	Secret *Secret
	// Reason is why, for Revoked.
	Reason Reason
	// Err is why, for Unavailable.
	Err error
}

// A ledger is what a watcher has seen: it turns the broker's messages into events, each version once. It survives
// reconnects and is what a stream resumes from.
type ledger map[string]sighting

type sighting struct {
	generation uint64
	version    string
}

func (l ledger) note(s *Secret) {
	l[s.name] = sighting{generation: s.generation, version: s.version.version}
}

func (l ledger) generations() map[string]uint64 {
	all := make(map[string]uint64, len(l))
	for name, seen := range l {
		all[name] = seen.generation
	}
	return all
}

// take returns the events of one message, in its order.
func (l ledger) take(message *brokerpb.WatchSecretsResponse) []Event {
	switch message.GetType() {
	case brokerpb.WatchEventType_WATCH_EVENT_TYPE_SNAPSHOT:
		return l.snapshot(message)
	case brokerpb.WatchEventType_WATCH_EVENT_TYPE_REVOKED:
		delete(l, message.GetName())
		return []Event{{Type: Revoked, Name: message.GetName(), Reason: reasonOf(message.GetReason())}}
	}
	return l.changes(message)
}

func (l ledger) changes(message *brokerpb.WatchSecretsResponse) []Event {
	var events []Event
	for _, secret := range message.GetSecrets() {
		if event, ok := l.changed(message.GetType(), secretOf(secret)); ok {
			events = append(events, event)
		}
	}
	return events
}

func (l ledger) snapshot(message *brokerpb.WatchSecretsResponse) []Event {
	events := l.changes(message)
	named := make(map[string]bool)
	for _, name := range message.GetUnchanged() {
		named[name] = true
	}
	for _, secret := range message.GetSecrets() {
		named[secret.GetName()] = true
	}
	for _, result := range message.GetUnavailable() {
		named[result.GetName()] = true
		delete(l, result.GetName())
		if e := result.GetError(); e != nil {
			events = append(events, Event{Type: Unavailable, Name: result.GetName(), Err: errorOf(e)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l)) {
		if !named[name] {
			delete(l, name)
			events = append(events, Event{Type: Revoked, Name: name, Reason: ReasonWithdrawn})
		}
	}
	return events
}

// changed tells a version not seen before as a rotation whatever the message calls it: the broker may have left out
// the message that lay between.
func (l ledger) changed(kind brokerpb.WatchEventType, s *Secret) (Event, bool) {
	seen, known := l[s.name]
	same := seen == sighting{generation: s.generation, version: s.version.version}
	l.note(s)
	event := Event{Name: s.name, Secret: s}
	switch {
	case !known:
		event.Type = Current
	case !same:
		event.Type = Rotated
	default:
		event.Type = unchanged[kind]
	}
	return event, event.Type != ""
}

// unchanged is what messages about a version that was seen already are told as.
var unchanged = map[brokerpb.WatchEventType]EventType{
	brokerpb.WatchEventType_WATCH_EVENT_TYPE_RENEWED:   Renewed,
	brokerpb.WatchEventType_WATCH_EVENT_TYPE_EXPIRING:  Expiring,
	brokerpb.WatchEventType_WATCH_EVENT_TYPE_STALE:     Stale,
	brokerpb.WatchEventType_WATCH_EVENT_TYPE_RECOVERED: Recovered,
}
