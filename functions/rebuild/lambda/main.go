// Command lambda is rebuild on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/rebuild"
	"recompose/shared/lambdaboot"
	"recompose/shared/queue"
)

func main() {
	lambdaboot.Main(func(p lambdaboot.Parts) queue.Function {
		return rebuild.New(p.API, rebuild.Settings{Engine: p.Engine, Deadline: p.Config.RebuildDeadline})
	})
}
