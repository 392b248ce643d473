// Command hello is the least that a Lambda program can be: what the programs of the functions are measured against.
package main

import (
	"context"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.StartHandlerFunc(func(context.Context, any) (string, error) { return "hello", nil })
}
