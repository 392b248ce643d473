// Command lambda is checkimages on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/checkimages"
	"recompose/shared/lambdaboot"
	"recompose/shared/queue"
)

func main() {
	lambdaboot.Main(func(p lambdaboot.Parts) queue.Function {
		return p.Engine.Read(checkimages.New(p.API, checkimages.Settings{Pace: p.Pace}), nil)
	})
}
