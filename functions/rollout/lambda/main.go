// Command lambda is rollout on AWS Lambda, behind its SQS queue. It needs no credentials of the service.
package main

import (
	"recompose/functions/rollout"
	"recompose/shared/lambdaboot"
	"recompose/shared/once"
	"recompose/shared/queue"
)

func main() {
	lambdaboot.MainWithoutCalls(func(project lambdaboot.Project, engine *once.Engine) queue.Function {
		return rollout.New(project, engine)
	})
}
