// Checks CloudFormation templates against the schemas and rules of AWS, and prints what is wrong with each as a line of
// JSON: a list of {rule, severity, where, message}.
//
//   node validate.mjs FILE...
import { createRequire } from 'node:module'

const { RegoEngine, TemplateFile } = createRequire(import.meta.url)('@aws/cloudformation-validate')
const engine = new RegoEngine()
for (const file of process.argv.slice(2)) {
  const { diagnostics } = engine.validateStandard(new TemplateFile(file), { severityLevel: 'WARN' })
  console.log(JSON.stringify(diagnostics.map((d) => ({ rule: d.ruleId, severity: d.severity, where: d.propertyPath, message: d.message }))))
}
