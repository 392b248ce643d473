// Command lambda is watchjob on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/watchjob"
	"recompose/shared/lambdaboot"
	"recompose/shared/queue"
)

func main() {
	lambdaboot.Main(func(p lambdaboot.Parts) queue.Function {
		return watchjob.New(p.API, watchjob.Settings{Engine: p.Engine, Pace: p.Pace, Log: p.Log})
	})
}
