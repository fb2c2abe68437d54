import { writeFileSync } from 'node:fs';
import { ResultDocument } from '../src/core/contract/result.js';
import { plain, testbedJsonSchema } from '../src/core/testbed/json-schema.js';
import { CalibrationSchema } from '../src/core/cost-model/calibration.js';
import { casesJsonSchema } from '../src/core/program-test/cases-json-schema.js';
import { DoctorDocument } from '../src/report/doctor-schema.js';
import { ObjectInfo } from '../src/report/object-info-schema.js';
import { PlanDocument } from '../src/report/plan-schema.js';
import { ProgDiffDocument } from '../src/report/prog-diff-schema.js';
import { ProgFuzzDocument } from '../src/report/prog-fuzz-schema.js';
import { ProgRunDocument } from '../src/report/prog-run-schema.js';
import { ProgTestDocument } from '../src/report/prog-test-schema.js';
import { StatusDocument, UpDocument } from '../src/report/status-schema.js';
import { VerificationDocument } from '../src/report/verification-schema.js';
import { EventLine } from '../src/report/event-schema.js';
import { BUILT_IN_PLUGINS } from '../src/presets.js';

const DRAFT = 'http://json-schema.org/draft-07/schema#';

/** Every schema file by its name. `npm run build:schemas` writes them; a test compares them with the checked-in ones. */
export async function schemaFiles(): Promise<Record<string, string>> {
  const plugins = await Promise.all(BUILT_IN_PLUGINS.map((entry) => entry.load()));
  const render = (schema: object): string => `${JSON.stringify(schema, null, 2)}\n`;
  return {
    'testbed.schema.json': render(testbedJsonSchema(plugins)),
    'cases.schema.json': render({ $schema: DRAFT, ...casesJsonSchema() }),
    'calibration.schema.json': render({
      $schema: DRAFT,
      $id: 'urn:xdpbed:schemas:calibration.schema.json',
      ...plain(CalibrationSchema),
    }),
    'result.schema.json': render({ $schema: DRAFT, ...plain(ResultDocument) }),
    'event.schema.json': render({ $schema: DRAFT, ...plain(EventLine) }),
    'object-info.schema.json': render({ $schema: DRAFT, ...plain(ObjectInfo) }),
    'verification.schema.json': render({ $schema: DRAFT, ...plain(VerificationDocument) }),
    'doctor.schema.json': render({ $schema: DRAFT, ...plain(DoctorDocument) }),
    'plan.schema.json': render({ $schema: DRAFT, ...plain(PlanDocument) }),
    'status.schema.json': render({ $schema: DRAFT, ...plain(StatusDocument) }),
    'up.schema.json': render({ $schema: DRAFT, ...plain(UpDocument) }),
    'prog-run.schema.json': render({ $schema: DRAFT, ...plain(ProgRunDocument) }),
    'prog-test.schema.json': render({ $schema: DRAFT, ...plain(ProgTestDocument) }),
    'prog-diff.schema.json': render({ $schema: DRAFT, ...plain(ProgDiffDocument) }),
    'prog-fuzz.schema.json': render({ $schema: DRAFT, ...plain(ProgFuzzDocument) }),
  };
}

export async function writeSchemas(folder: URL): Promise<void> {
  for (const [name, text] of Object.entries(await schemaFiles())) writeFileSync(new URL(name, folder), text);
}
