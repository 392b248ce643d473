package lambdaboot

import (
	"context"

	"recompose/shared/queue/awsqueue"
	"recompose/shared/service"
)

// sameService holds all messages while the deployment works on another service than this function. Nothing is asked of
// the service then, not even whether it takes the credentials.
type sameService struct {
	awsqueue.Brake
	claim service.Claim
}

// Check returns why no message may be handled.
func (s sameService) Check(ctx context.Context) error {
	if err := s.claim.Check(ctx); err != nil {
		return err
	}
	return s.Brake.Check(ctx)
}
