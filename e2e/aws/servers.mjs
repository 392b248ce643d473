// Starts DynamoDB's protocol (dynalite), or SQS's and SNS's (fauxqs), on a free port of this machine and prints its
// address. It ends when its standard input does, so that it never outlives the tests.
//
//   node servers.mjs dynamodb [FOLDER]
//   node servers.mjs sqs
import { createRequire, register } from 'node:module'

const [what, folder] = process.argv.slice(2)
const host = '127.0.0.1'

const start = {
  async dynamodb() {
    const dynalite = createRequire(import.meta.url)('dynalite')
    const server = dynalite({ createTableMs: 0, deleteTableMs: 0, ...(folder ? { path: folder } : {}) })
    await new Promise((done) => server.listen(0, host, done))
    return `http://${host}:${server.address().port}`
  },
  async sqs() {
    // The module node:sqlite, which Node 20 does not have, is needed only for storage on disk, which these tests do not use.
    const stub = "export const resolve = (name, context, next) => name === 'node:sqlite' ? { shortCircuit: true, url: 'data:text/javascript,export class DatabaseSync {}' } : next(name, context)"
    register('data:text/javascript,' + encodeURIComponent(stub))
    const { buildApp } = await import('fauxqs')
    const app = buildApp({ logger: false })
    return (await app.listen({ host, port: 0 })).replace('localhost', host)
  },
}

// dynalite throws if a client is killed in the middle of its request, which is what these tests do to clients.
process.on('uncaughtException', (error) => {
  if (error.code === 'ECONNRESET') return
  console.error(error)
  process.exit(1)
})

console.log(await start[what]())
process.stdin.resume()
process.stdin.on('close', () => process.exit(0))
