import { writeSchemas } from './generate.js';

// Run from the repository's root by `npm run build:schemas`.
await writeSchemas(new URL('schemas/', `file://${process.cwd()}/`));
