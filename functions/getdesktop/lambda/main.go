// Command lambda is getdesktop on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/getdesktop"
	"recompose/shared/lambdaboot"
	"recompose/shared/queue"
)

func main() {
	lambdaboot.Main(func(p lambdaboot.Parts) queue.Function {
		return p.Engine.Read(getdesktop.New(p.API, getdesktop.Settings{BlankPersonal: p.Config.BlankPersonal}), getdesktop.Kept)
	})
}
