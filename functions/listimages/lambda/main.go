// Command lambda is listimages on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/listimages"
	"recompose/shared/lambdaboot"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

func main() {
	lambdaboot.Main(func(api *workspace.Client, engine *once.Engine) queue.Function { return listimages.New(api, engine) })
}
