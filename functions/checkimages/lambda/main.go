// Command lambda is checkimages on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/checkimages"
	"recompose/shared/lambdaboot"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

func main() {
	lambdaboot.Main(func(api *workspace.Client, engine *once.Engine) queue.Function { return checkimages.New(api, engine) })
}
