// Reads lines from its standard input and checks those in CloudWatch's embedded metric format against emf.schema.json. It
// prints a line of JSON for each: {faults: [...], points: [{namespace, name, dimensions, value}]}. A line that only claims to
// be in that format has faults; every other line is skipped.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const Ajv = createRequire(import.meta.url)('ajv')
const check = new Ajv({ allErrors: true }).compile(JSON.parse(readFileSync(new URL('emf.schema.json', import.meta.url))))

for await (const line of createInterface({ input: process.stdin })) {
  if (!line.includes('"_aws"')) continue
  let root
  try { root = JSON.parse(line) } catch (e) { console.log(JSON.stringify({ faults: [String(e)], points: [] })); continue }
  const faults = check(root) ? [] : check.errors.map((e) => `${e.instancePath} ${e.message}`)
  const points = []
  for (const d of faults.length ? [] : root._aws.CloudWatchMetrics) {
    for (const m of d.Metrics) {
      if (typeof root[m.Name] !== 'number') faults.push(`${m.Name} has no number`)
      for (const set of d.Dimensions) {
        for (const name of set) if (typeof root[name] !== 'string' || root[name] === '') faults.push(`${name} has no text`)
        points.push({ namespace: d.Namespace, name: m.Name, dimensions: Object.fromEntries(set.map((name) => [name, root[name]])), value: root[m.Name] })
      }
    }
  }
  console.log(JSON.stringify({ faults, points: faults.length ? [] : points }))
}
