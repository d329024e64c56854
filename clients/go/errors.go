package secretbroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

// A Reason is the broker's machine-readable reason of an error or of staleness: the name in the contract, without its
// prefix.
type Reason string

// The reasons of the contract.
const (
	ReasonUnspecified           Reason = ""
	ReasonUnauthenticated       Reason = "UNAUTHENTICATED"
	ReasonDenied                Reason = "DENIED"
	ReasonInvalidRequest        Reason = "INVALID_REQUEST"
	ReasonSourceUnavailable     Reason = "SOURCE_UNAVAILABLE"
	ReasonSourceSealed          Reason = "SOURCE_SEALED"
	ReasonSourceThrottled       Reason = "SOURCE_THROTTLED"
	ReasonSourceTimeout         Reason = "SOURCE_TIMEOUT"
	ReasonSourceForbidden       Reason = "SOURCE_FORBIDDEN"
	ReasonSourceUnauthenticated Reason = "SOURCE_UNAUTHENTICATED"
	ReasonSourceNotFound        Reason = "SOURCE_NOT_FOUND"
	ReasonSourceInvalid         Reason = "SOURCE_INVALID"
	ReasonExpired               Reason = "EXPIRED"
	ReasonRevoked               Reason = "REVOKED"
	ReasonWithdrawn             Reason = "WITHDRAWN"
	ReasonAuditUnavailable      Reason = "AUDIT_UNAVAILABLE"
	ReasonLimitExceeded         Reason = "LIMIT_EXCEEDED"
	ReasonDeadlineExceeded      Reason = "DEADLINE_EXCEEDED"
	ReasonShuttingDown          Reason = "SHUTTING_DOWN"
	ReasonInternal              Reason = "INTERNAL"
)

const (
	errorDomain  = "secretbroker.v1"
	reasonPrefix = "ERROR_REASON_"
)

// ErrClosed is what a closed [Live] handle says instead of a value.
var ErrClosed = errors.New("the live handle is closed")

// A ConfigurationError says that the client was told something that can't work: an address, a file, a name.
type ConfigurationError struct {
	Message string
}

func (e *ConfigurationError) Error() string { return e.Message }

// A TLSError says that the broker and this client do not accept each other's certificates.
type TLSError struct {
	Address string
	Detail  string
}

func (e *TLSError) Error() string { return fmt.Sprintf("TLS with %s failed: %s", e.Address, e.Detail) }

// An UnreachableError says that the broker can't be reached, or that the connection broke.
type UnreachableError struct {
	Address string
	Detail  string
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s can't be reached: %s; is the broker running there?", e.Address, e.Detail)
}

// A DeadlineError says that no answer came in time. It wraps [context.DeadlineExceeded].
type DeadlineError struct {
	Address  string
	Deadline time.Duration
}

func (e *DeadlineError) Error() string {
	return fmt.Sprintf("no answer from %s within %g s", e.Address, e.Deadline.Seconds())
}

// Unwrap makes errors.Is(err, context.DeadlineExceeded) true.
func (e *DeadlineError) Unwrap() error { return context.DeadlineExceeded }

// A RefusedError is the broker's answer that it will not do what was asked.
type RefusedError struct {
	Reason  Reason
	Message string // for people; never contains a value
	// RetryAfter is how long to wait before asking again; 0 when that won't help.
	RetryAfter time.Duration
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Reason) }

// ReasonOf is the broker's reason, where it answered; empty otherwise.
func ReasonOf(err error) Reason {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Reason
	}
	return ReasonUnspecified
}

// RetryAfter is how long the broker asks to wait before the next attempt; 0 when it does not.
func RetryAfter(err error) time.Duration {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.RetryAfter
	}
	return 0
}

// IsTransient tells whether the same call may succeed without anybody changing the request.
func IsTransient(err error) bool {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		switch refused.Reason {
		case ReasonDenied, ReasonInvalidRequest, ReasonUnauthenticated:
			return false
		default:
			return true
		}
	}
	for _, transient := range []any{new(*TLSError), new(*UnreachableError), new(*DeadlineError)} {
		if errors.As(err, transient) {
			return true
		}
	}
	return false
}

// answered is what the broker answered; nil when it was not the broker that ended the call.
func answered(s *status.Status) error {
	refused := &RefusedError{Reason: reasonByCode(s.Code()), Message: s.Message()}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			_, known := brokerpb.ErrorReason_value[reasonPrefix+detail.GetReason()]
			if known && detail.GetDomain() == errorDomain {
				refused.Reason = Reason(detail.GetReason())
			}
		case *errdetails.RetryInfo:
			refused.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	if refused.Reason == ReasonUnspecified {
		return nil
	}
	return refused
}

// reasonByCode is for answers of proxies and libraries that give no reason.
func reasonByCode(code codes.Code) Reason {
	switch code {
	case codes.Unauthenticated:
		return ReasonUnauthenticated
	case codes.PermissionDenied, codes.NotFound:
		return ReasonDenied
	case codes.InvalidArgument, codes.OutOfRange, codes.Unimplemented:
		return ReasonInvalidRequest
	case codes.ResourceExhausted:
		return ReasonLimitExceeded
	case codes.Internal, codes.DataLoss:
		return ReasonInternal
	default:
		return ReasonUnspecified
	}
}

func reasonOf(reason brokerpb.ErrorReason) Reason {
	name := strings.TrimPrefix(reason.String(), reasonPrefix)
	if name == "UNSPECIFIED" {
		return ReasonUnspecified
	}
	return Reason(name)
}

func errorOf(e *brokerpb.SecretError) error {
	return &RefusedError{
		Reason:     reasonOf(e.GetReason()),
		Message:    e.GetMessage(),
		RetryAfter: e.GetRetryAfter().AsDuration(),
	}
}
