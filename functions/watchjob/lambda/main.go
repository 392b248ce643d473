// Command lambda is watchjob on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/watchjob"
	"recompose/shared/lambdaboot"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

func main() {
	lambdaboot.Main(func(api *workspace.Client, engine *once.Engine) queue.Function { return watchjob.New(api, engine) })
}
