// Command lambda is rebuild on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/rebuild"
	"recompose/shared/lambdaboot"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

func main() {
	lambdaboot.Main(func(api *workspace.Client, engine *once.Engine) queue.Function { return rebuild.New(api, engine) })
}
