import { REJECTION_CODES, REJECTION_HELP, type RejectionCode } from './rejection-codes.js';
import { TWINS } from './twins/index.js';
import type { Twin } from './twins/twin.js';

/** Where the page is, from the root of the repository. */
export const REJECTIONS_PAGE = 'docs/verifier/rejections.md';

const HEAD = `# Why the verifier \`abstract\` rejects a program

Codes are stable: scripts, policies and audit records may match on them. Each has its meaning, what helps, and
the smallest program of ours that is rejected with it, next to the same program made safe. These programs are the
verifier's own test cases (plugins/verifier-abstract/twins); this page is made from them and from the table of
codes, and a test keeps it current (\`UPDATE_DOCS=1 npx vitest run plugins/verifier-abstract/rejections-page.test.ts\`).

The programs can name these maps: \`values\` (ARRAY, 4 elements of 16 bytes), \`wide\` (ARRAY, 1 element of 256
bytes), \`flows\` (HASH, values of 8 bytes), \`constants\` (read-only, frozen), \`sink\` (write-only), \`nested\`
(ARRAY_OF_MAPS), \`programs\`, \`ring\`, \`devices\`, \`queue\`, \`events\`, \`pair\` (HASH of 2), \`tables\`
(ARRAY_OF_MAPS that holds hashes), \`texts\` (frozen, 2 elements), \`outbox\` (write-only QUEUE), \`empty\` (values of 0
bytes) and \`sockets\` (XSKMAP).
`;

const PUBLISHED_HEAD = `## Published faults of the kernel's verifier

Faults that were published and that an XDP program could have used, by CVE or in words, and the case of ours that is like it.
Not among them are classes that need
another type of program (CVE-2022-2785), BTF objects and locks in maps, or what a CPU does speculatively.
`;

/** Codes that no program of a few insns shows. */
const WITHOUT_PROGRAM: Partial<Record<RejectionCode, string>> = {
  'program-empty': 'Any program without an insn.',
  'program-too-long': 'Any program of more than `maxProgramInsns` insns.',
  'program-type': 'Any program that is not of type XDP.',
  'out-of-memory': 'A program whose states are many and large; `maxMemoryMiB` sets the limit.',
  'out-of-time': 'A program that takes long to explore; `maxMilliseconds` sets the limit.',
  'internal-error': 'None should exist.',
};

/** docs/verifier/rejections.md as it should be. */
export function renderRejectionsPage(): string {
  const codes = Object.keys(REJECTION_CODES) as RejectionCode[];
  const index = codes.map((code) => `- [\`${code}\`](#${code}): ${REJECTION_CODES[code]}`).join('\n');
  return `${HEAD}\n${index}\n\n${codes.map(renderCode).join('\n')}\n${renderPublished()}`;
}

/** Which case of ours stands for which fault of the kernel's verifier. */
function renderPublished(): string {
  const published = TWINS.flatMap(({ name, publishedAs, code }) =>
    publishedAs === undefined ? [] : [`- ${publishedAs}: ${name} (\`${code}\`)`],
  );
  return `${PUBLISHED_HEAD}\n${published.join('\n')}\n`;
}

function renderCode(code: RejectionCode): string {
  const twins = TWINS.filter((twin) => twin.code === code);
  const smallest = twins.reduce<Twin | undefined>(
    (best, twin) => (best === undefined || size(twin) < size(best) ? twin : best),
    undefined,
  );
  const meaning = `## ${code}\n\n${sentence(REJECTION_CODES[code])}\n\n**Fix:** ${REJECTION_HELP[code]}.\n`;
  if (smallest === undefined) return `${meaning}\n${WITHOUT_PROGRAM[code] ?? ''}\n`;
  const others = twins.filter((twin) => twin !== smallest).map((twin) => twin.name);
  const more = others.length === 0 ? '' : `\nOther cases: ${others.join('; ')}.\n`;
  return `${meaning}
Rejected (${smallest.name}):

\`\`\`
${tidy(smallest.rejected)}
\`\`\`

Accepted:

\`\`\`
${tidy(smallest.accepted)}
\`\`\`
${more}`;
}

function size(twin: Twin): number {
  return tidy(twin.rejected).length + tidy(twin.accepted).length;
}

function sentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

/** One insn a line, labels flush left. */
function tidy(text: string): string {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .flatMap((line) => {
      const label = /^(\w+:)\s*(.*)$/.exec(line);
      if (label === null) return [`  ${line}`];
      return label[2] === '' ? [label[1]!] : [label[1]!, `  ${label[2]!}`];
    })
    .join('\n');
}
