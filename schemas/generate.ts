import { writeFileSync } from 'node:fs';
import { ResultDocument } from '../src/core/contract/result.js';
import { plain, testbedJsonSchema } from '../src/core/testbed/json-schema.js';
import { CaseFileSchema } from '../src/core/program-test/case-schema.js';
import { BUILT_IN_PLUGINS } from '../src/presets.js';

const DRAFT = 'http://json-schema.org/draft-07/schema#';

/** Every schema file by its name. `npm run build:schemas` writes them; a test compares them with the checked-in ones. */
export function schemaFiles(): Record<string, string> {
  const render = (schema: object): string => `${JSON.stringify(schema, null, 2)}\n`;
  return {
    'testbed.schema.json': render(testbedJsonSchema(BUILT_IN_PLUGINS)),
    'cases.schema.json': render({ $schema: DRAFT, ...plain(CaseFileSchema) }),
    'result.schema.json': render({
      $schema: 'http://json-schema.org/draft-07/schema#',
      ...plain(ResultDocument),
    }),
  };
}

export function writeSchemas(folder: URL): void {
  for (const [name, text] of Object.entries(schemaFiles())) writeFileSync(new URL(name, folder), text);
}
