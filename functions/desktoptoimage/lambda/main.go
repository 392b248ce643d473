// Command lambda is desktoptoimage on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/desktoptoimage"
	"recompose/shared/lambdaboot"
	"recompose/shared/queue"
)

func main() {
	lambdaboot.Main(func(p lambdaboot.Parts) queue.Function {
		return desktoptoimage.New(p.API, desktoptoimage.Settings{Engine: p.Engine, Deadline: p.Config.ImageDeadline})
	})
}
