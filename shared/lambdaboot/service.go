package lambdaboot

import (
	"context"

	"recompose/shared/queue"
	"recompose/shared/service"
)

// sameService holds all messages while the deployment works on another service than this function. Then it makes no
// call to the service, not even to check the credentials.
type sameService struct {
	queue.Key
	claim service.Claim
}

// Check returns why no message may be handled.
func (s sameService) Check(ctx context.Context) error {
	if err := s.claim.Check(ctx); err != nil {
		return err
	}
	return s.Key.Check(ctx)
}
