import { CaseFileSchema } from '../src/core/program-test/case-schema.js';
import { plain } from '../src/core/testbed/json-schema.js';

/** Where the page is, from the root of the repository. */
export const CASES_PAGE = 'docs/cases.md';

/** Cases files that the page shows, each with what it shows; together they have every key. */
export const CASES_EXAMPLES: readonly { readonly file: string; readonly title: string }[] = [
  { file: 'blocklist.cases.yaml', title: 'Tables, steps, maps and events' },
  { file: 'headers.cases.yaml', title: 'Packets by their fields' },
  { file: 'captures.cases.yaml', title: 'Captures and snapshots' },
  { file: 'redirect_kinds.cases.yaml', title: 'Where a packet is redirected to' },
  { file: 'adjust.cases.yaml', title: 'Metadata' },
  { file: 'draws.cases.yaml', title: 'Time, random numbers and traces' },
];

const HEAD = `# Cases: unit tests of XDP programs

\`xdpbed prog test FILES…\` runs the cases of each file, without root, and says by name, file, line and column what is not as expected. This page
is made from the schema (\`schemas/cases.schema.json\`, for editors) and from files in testbeds/cases, which tests run
(\`UPDATE_DOCS=1 npx vitest run schemas/cases-page.test.ts\`).

## The tool
| | |
| --- | --- |
| \`xdpbed prog test a.cases.yaml b.cases.yaml\` | several files, as many at a time as there are CPUs (\`--jobs N\`) when they take longer than a quarter of a second |
| \`xdpbed prog test tests\`, \`'tests/**/*.cases.yaml'\` | all \`*.cases.yaml\` below a folder, or what fits a pattern (\`*\`, \`?\`, \`**\`) |
| \`xdpbed prog test build/x.o a.cases.yaml\`, \`--object build/x.o\` | on another object than the one that the files name |
| \`--filter TEXT\`, \`--bail\` | only cases with this text in their names; none after the first that fails, and files one after the other (as with \`--coverage\` and executor \`kernel\`) |
| \`--watch\`, \`--build 'make x.o'\` | again whenever a file changes; build before, and when a source below the working directory changes |
| \`--update\` | write the captures and snapshots that are expected as they are now |
| \`--format text\\|junit\\|tap\\|json\` | JSON is that of \`schemas/prog-test.schema.json\` |
| \`--executor interpreter\\|wasm\\|differential\\|kernel\` | who runs the program; \`kernel\` needs root, and random numbers are its own |

Exit code 0: all passed. 1: a case failed, the verifier's no included. 2: something is wrong in a file (a map or a member that the object has not,
a value that does not fit, two cases of one name, a byte that is no UTF-8), which is told before anything of that file runs; the other files run.
130: interrupted, with what there was so far.

A program is loaded once for all cases that load it alike, and taken back to its state before each: maps, buffers, random numbers, time and CPU.
None sees what another left.

## Values
Keys, values and events are written by their BTF types, here as in presets of testbeds and in \`prog run --maps\`; what is printed of maps can be
pasted.

| type | written as |
| --- | --- |
| integer, bit-field | a number; \`0x1f\` is one. Four bytes in host order also take \`10.0.0.1\`, in the order of memory |
| \`__be16\`, \`__be64\`, \`in_port_t\` | the number, which lies in network order: a port is \`53\` |
| \`__be32\`, \`in_addr_t\`, \`struct in_addr\` | \`10.0.0.1\`, or the number that it is |
| \`struct in6_addr\`, arrays of 16 unsigned bytes | \`2001:db8::1\`; also for four words |
| arrays of 6 unsigned bytes | \`02:00:00:00:00:01\` |
| \`bool\`, enum | \`true\`, \`false\`; the name of a value, or a number |
| \`char\` array | text |
| array | a list; what is left out is 0 |
| struct, union, global variables | an object by member or variable; what is left out is 0, and of what is expected may be anything |
| anything | \`{ bytes: "0a 00 00 01" }\`, in the order of memory. A member that is called \`bytes\` goes first |

A key or value without a type is a number of up to 8 bytes, an address of 4, 6 or 16 bytes, or \`{ bytes: … }\`. What does not fit is an error
at its member; nothing is cut off.

Content of a map is a list of \`{ key, value }\`, of \`.data\`, \`.rodata\` and \`.bss\` an object by variable. Of a per-CPU map \`value\` stands for every CPU
where it is given, and for the CPU that the packet ran on where it is expected; \`cpus: { CPU: value }\` gives each CPU its own, others 0, and expects of
those that are named. \`value: null\` expects that there is no such element. \`whole-maps\` expects these elements and no others (of an array: all
others are zero), and 0 of what is left out. A value in a PROG_ARRAY is the name of a program of the object, in a map of maps the name of a map;
they are loaded with the program.

The type of what goes through a ring buffer or an array of perf events is named in \`event-types\`. Clang writes only types into BTF that something
refers to: \`const struct drop_event *unused __attribute__((unused));\`.

## Packets
A packet is \`hex\`, or is built from its layers with lengths and checksums filled in; MAC addresses may be left out. Expected by layers, only the
fields that are named count (\`ipv4.ttl is 64, not 63\`), of the outermost header of each kind; \`hex\` is the whole frame.

Packets of a capture (\`pcap\`, \`packets\`) run one after the other at the times that it has; what is expected of a packet has to hold for each. Of a packet
that the capture cut, the program sees what is there, and the case says so.

## Steps and tables
What a step does not say, it takes over from its case. \`maps\` of a step are set before it, those of the case before the first. What a case with
steps expects, it expects after the last, of the packets and events of all. Events and traces are those since the step before.

A case with \`each\` is there once for each row; \`$name\` is what the row says under that name, as the value that it is where it stands alone. Programs
of devmap and cpumap entries are not run.
`;

interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly anyOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
}

/** A key by where it may stand, without list indexes: `cases.expect.verdict`. */
export interface CaseKey {
  readonly path: readonly string[];
  readonly schema: JsonSchema;
}

/** Every key that a cases file may have; those of steps and expected packets are told with those of cases. */
export function caseKeys(): CaseKey[] {
  return keysOf(plain(CaseFileSchema), []);
}

function keysOf(schema: JsonSchema, path: readonly string[]): CaseKey[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const at = [...path, name];
    return [{ path: at, schema: property }, ...keysOf(property.items ?? property, at)];
  });
}

/** docs/cases.md as it should be. @param read the text of an example */
export function renderCasesPage(read: (file: string) => string): string {
  const keys = caseKeys().filter(({ path }) => path[0] !== '$schema');
  const [file, cases, steps, packet, expect] = [
    [],
    ['cases'],
    ['cases', 'steps'],
    ['cases', 'packet'],
    ['cases', 'expect'],
  ];
  const under = (prefix: readonly string[], ...except: (readonly string[])[]): CaseKey[] =>
    keys.filter(
      ({ path }) =>
        path.length > prefix.length &&
        startsWith(path, prefix) &&
        !except.some((other) => path.length > other.length && startsWith(path, other)),
    );
  const expected = under([...expect, 'packet']).filter(
    ({ path }) => !under(packet).some((own) => ends(own.path, path)),
  );
  return [
    HEAD,
    '## Keys of a file\n',
    table(under(file, cases), file),
    '## Keys of a case\n',
    'Steps have those behind which it says so.\n',
    table(under(cases, steps, packet, expect), cases, (path) =>
      under(steps).some((own) => own.path.length === 3 && own.path[2] === path[1]),
    ),
    '## Keys of a packet\n',
    `Of an expected one also ${expected.map(({ path, schema }) => `\`${path.at(-1)}\`: ${schema.description}`).join('; ')}.\n`,
    table(under(packet), packet),
    '## Keys of what is expected\n',
    table(under(expect, [...expect, 'packet']), expect),
    ...CASES_EXAMPLES.map(
      ({ file: name, title }) =>
        `## ${title}\ntestbeds/cases/${name}:\n\n\`\`\`yaml\n${body(read(name))}\`\`\`\n`,
    ),
  ].join('\n');
}

function startsWith(path: readonly string[], prefix: readonly string[]): boolean {
  return prefix.every((step, index) => path[index] === step);
}

/** Whether they are the same key of a packet that is given and of one that is expected. */
function ends(given: readonly string[], expected: readonly string[]): boolean {
  return given.slice(2).join('.') === expected.slice(3).join('.');
}

function table(
  keys: readonly CaseKey[],
  below: readonly string[],
  isOfStep?: (path: readonly string[]) => boolean,
): string {
  const rows = keys.map(({ path, schema }) => {
    const name = path.slice(below.length).join('.');
    const what = cell(`${schema.description ?? ''}${shape(schema)}`);
    const step = isOfStep === undefined ? '' : `${isOfStep(path) ? ' yes' : ''} |`;
    return `| \`${name}\` |${step} ${schema.default === undefined ? '' : `\`${JSON.stringify(schema.default)}\``} | ${what} |`;
  });
  const step = isOfStep === undefined ? ['', ''] : [' step |', ' --- |'];
  return `| key |${step[0]} default | what it is |\n| --- |${step[1]} --- | --- |\n${rows.join('\n')}\n`;
}

function shape({ type, minimum, maximum, ...schema }: JsonSchema): string {
  const words =
    schema.enum ?? schema.items?.enum ?? (schema.const === undefined ? undefined : [schema.const]);
  if (words !== undefined) return ` (${words.join(', ')})`;
  if (![type].flat().includes('integer') || minimum === undefined) return '';
  return maximum === undefined ? ` (from ${minimum})` : ` (${minimum} to ${maximum})`;
}

/** Without the line that is for editors only. */
function body(text: string): string {
  return text.replace(/^# yaml-language-server:.*\n(?:#\n)?/, '');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').trim();
}
