// Command lambda is listdesktops on AWS Lambda, behind its SQS queue.
package main

import (
	"recompose/functions/listdesktops"
	"recompose/shared/lambdaboot"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

func main() {
	lambdaboot.Main(func(api *workspace.Client, engine *once.Engine) queue.Function { return listdesktops.New(api, engine) })
}
