import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { BPF_PROG_TYPE_XDP } from '../../bpf/program.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import type { VerifyRequest } from '../contract/verifier.js';
import { JudgePool } from './judge-pool.js';
import { JudgeProcess, type JudgeLimits } from './judge-process.js';
import type { JudgeRecipe } from './judge-messages.js';

const library = new URL('../../../dist/src/index.js', import.meta.url).href;
const abstract = BUILT_IN_PLUGINS.find((plugin) => plugin.name === 'abstract')!.module!;
const LIMITS: JudgeLimits = { milliseconds: 20_000, memoryMiB: 128 };

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'judge-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A verifier whose `verify` has this body; `request` is what it is asked, `ACCEPTED` an acceptance. */
function verifierThat(body: string, whenImported = ''): JudgeRecipe {
  const path = join(folder, `${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(
    path,
    `import { definePlugin, VERIFIER } from ${JSON.stringify(library)};
     ${whenImported}
     const ACCEPTED = { accepted: true, verifier: 'made-up', statistics: { processedInsns: 1, peakStates: 0, totalStates: 0 } };
     let calls = 0;
     export default definePlugin({
       name: 'made-up', version: '1.0.0', role: 'verifier', api: '^2', description: 'for a test',
       configSchema: { type: 'object' },
       register(scope) {
         scope.bindValue(VERIFIER, { name: 'made-up', verify: async (request) => { calls++; ${body} } });
       },
     });`,
  );
  return { rule: 'all', verifiers: [{ module: pathToFileURL(path).href, config: {} }] };
}

function request(text: string, signal?: AbortSignal): VerifyRequest {
  return {
    program: {
      name: 'p',
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible: true,
      insns: assemble(text),
    },
    maps: new Map(),
    signal,
  };
}

const PASS = request('r0 = 2\nexit');

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

type Judge = Pick<JudgeProcess, 'usable' | 'pid' | 'close'> & {
  verify(request: VerifyRequest): ReturnType<JudgeProcess['verify']>;
};

/** A process that is asked for what one recipe says. */
function judgeOf(recipe: JudgeRecipe, limits: JudgeLimits): Judge {
  const judge = new JudgeProcess(limits);
  return {
    get usable() {
      return judge.usable;
    },
    get pid() {
      return judge.pid;
    },
    verify: (request: VerifyRequest) => judge.verify(recipe, request),
    close: () => judge.close(),
  };
}

async function judged(recipe: JudgeRecipe, limits: JudgeLimits = LIMITS) {
  const judge = judgeOf(recipe, limits);
  try {
    const { verification } = await judge.verify(PASS);
    return verification.accepted ? 'accepted' : verification.code;
  } finally {
    judge.close();
  }
}

describe('a verifier in a process of its own', () => {
  it('says what it says in this process', async () => {
    const { DEFAULT_CONFIG } = await import('../../../plugins/verifier-abstract/config.js');
    const { AbstractVerifier } = await import('../../../plugins/verifier-abstract/abstract-verifier.js');
    const config = { ...DEFAULT_CONFIG, deterministic: true };
    const judge = judgeOf({ rule: 'all', verifiers: [{ module: abstract, config }] }, LIMITS);
    const here = new AbstractVerifier(config);
    const unsafe = request('r2 = *(u32 *)(r1 + 0)\nr0 = *(u8 *)(r2 + 0)\nexit');
    for (const each of [PASS, unsafe, { ...unsafe, log: true }]) {
      expect((await judge.verify(each)).verification).toEqual(await here.verify(each));
    }
    judge.close();
  });

  it('is several verifiers where the testbed says so', async () => {
    const of = (name: string) => BUILT_IN_PLUGINS.find((plugin) => plugin.name === name)!.module!;
    const { DEFAULT_CONFIG } = await import('../../../plugins/verifier-abstract/config.js');
    const recipe: JudgeRecipe = {
      rule: 'all',
      verifiers: [
        { module: of('structural'), config: {} },
        { module: of('abstract'), config: DEFAULT_CONFIG },
      ],
    };
    const judge = judgeOf(recipe, LIMITS);
    const { verification } = await judge.verify(PASS);
    judge.close();
    expect(verification.opinions?.map((opinion) => opinion.verifier)).toEqual(['structural', 'abstract']);
  });

  it.each([
    ['does not end', 'for (;;);', 'out-of-time'],
    ['waits for ever', 'await new Promise(() => setInterval(() => {}, 1000));', 'out-of-time'],
    ['keeps many small things', 'const kept = []; for (;;) kept.push({ a: [1] });', 'out-of-memory'],
    ['grows one table', 'const kept = new Map(); for (let i = 0; ; i++) kept.set(i, i);', 'out-of-memory'],
    [
      'asks for much at once',
      'const kept = []; for (;;) kept.push(new Array(2e7).fill(1.5));',
      'out-of-memory',
    ],
    ['keeps buffers', 'const kept = []; for (;;) kept.push(new Uint8Array(2e7).fill(1));', 'out-of-memory'],
  ])('that %s is ended, and this process does not notice', async (_, body, code) => {
    let turns = 0;
    const turning = setInterval(() => turns++, 5);
    const limits = code === 'out-of-time' ? { ...LIMITS, milliseconds: 300 } : LIMITS;
    const answer = await judged(verifierThat(body), limits);
    clearInterval(turning);
    expect(answer).toBe(code);
    expect(turns).toBeGreaterThan(10);
  });

  it.each([
    ['throws', 'throw new Error("not today");', 'not today'],
    [
      'throws when nobody looks',
      'setTimeout(() => { throw new Error("late"); }); await new Promise(() => {});',
      'ended with exit code 1',
    ],
    ['ends its process', 'process.exit(3);', 'ended with exit code 3'],
    [
      'kills its process',
      'process.kill(process.pid, "SIGTERM"); await new Promise(() => {});',
      'ended with SIGTERM',
    ],
    ['cannot be sent back', 'return { ...ACCEPTED, log: () => {} };', 'could not be cloned'],
  ])('that %s is a failure', async (_, body, message) => {
    await expect(judged(verifierThat(body))).rejects.toThrow(message);
  });

  it('that cannot be made is a failure, with what was wrong', async () => {
    const recipe: JudgeRecipe = { rule: 'all', verifiers: [{ module: `${folder}/none.mjs`, config: {} }] };
    await expect(judged(recipe)).rejects.toThrow('none.mjs');
  });

  it('gets the limits, so that it can end by itself', async () => {
    const judge = judgeOf(
      verifierThat('return { ...ACCEPTED, log: JSON.stringify(request.limits) };'),
      LIMITS,
    );
    const { verification } = await judge.verify(PASS);
    judge.close();
    expect(JSON.parse(verification.log!)).toEqual(LIMITS);
  });

  it('stops when nobody waits for it any more, and judges the next', async () => {
    const judge = judgeOf(
      verifierThat(`if (calls !== 2) return ACCEPTED;
        await new Promise((_, reject) => request.signal.addEventListener('abort', () => reject(new Error('stopped'))));`),
      LIMITS,
    );
    await judge.verify(PASS);
    const abort = new AbortController();
    const given = judge.verify({ ...PASS, signal: abort.signal });
    setTimeout(() => abort.abort(new Error('a reset')), 100);
    await expect(given).rejects.toThrow('a reset');
    expect(judge.usable).toBe(true);
    expect((await judge.verify(PASS)).verification.accepted).toBe(true);
    judge.close();
  });

  it('is ended when it does not stop', async () => {
    const judge = judgeOf(verifierThat('if (calls > 1) for (;;); return ACCEPTED;'), LIMITS);
    await judge.verify(PASS);
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error('a reset')), 100);
    await expect(judge.verify({ ...PASS, signal: abort.signal })).rejects.toThrow('a reset');
    expect(judge.usable).toBe(false);
    expect(isAlive(judge.pid!)).toBe(false);
  });
});

describe.runIf(process.platform === 'linux')('a judge that gets little of the CPU', () => {
  /** Who may not come back does not go (judge-priority.ts). */
  const mayChange = spawnSync('sh', ['-c', 'chrt -i -p 0 $$ && chrt -o -p 0 $$']).status === 0;

  /** Of the thread that judges: 0 is SCHED_OTHER, 5 SCHED_IDLE. */
  function policyOf(judge: Judge): string {
    const stat = readFileSync(`/proc/${judge.pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // proc(5): the 41st field.
    return fields[41 - 3]!;
  }

  it.runIf(mayChange)(
    'runs only where nobody else wants to, unless it gets next to nothing there',
    async () => {
      // That it waits for something else looks the same.
      const judge = judgeOf(
        verifierThat('await new Promise((resolve) => setTimeout(resolve, 1500)); return ACCEPTED;'),
        LIMITS,
      );
      const policies: string[] = [];
      const judged = judge.verify(PASS);
      const looking = setInterval(() => policies.push(policyOf(judge)), 20);
      await judged;
      clearInterval(looking);
      expect(policies).toContain('5');
      expect([...policies].at(-1)).toBe('0');
      await expect.poll(() => policyOf(judge), { timeout: 10_000 }).toBe('5');
      judge.close();
    },
  );

  /** Burns CPU time, and tells of it as the verifier's clock does. */
  const busyFor = (ms: number) =>
    `const { clock } = request.limits; const end = clock() + ${ms}; while (clock() < end); return ACCEPTED;`;

  it('is not out of time for that it has to wait', async () => {
    const judge = judgeOf(verifierThat(busyFor(150)), { ...LIMITS, milliseconds: 300 });
    await judge.verify(PASS);
    const started = performance.now();
    const judged = judge.verify(PASS);
    process.kill(judge.pid!, 'SIGSTOP');
    setTimeout(() => process.kill(judge.pid!, 'SIGCONT'), 600);
    expect((await judged).verification.accepted).toBe(true);
    expect(performance.now() - started).toBeGreaterThan(600);
    judge.close();
  });

  it('is waited for ten times as long as it may use', async () => {
    const judge = judgeOf(verifierThat('return ACCEPTED;'), { ...LIMITS, milliseconds: 50 });
    await judge.verify(PASS);
    const started = performance.now();
    const judged = judge.verify(PASS);
    process.kill(judge.pid!, 'SIGSTOP');
    const { verification } = await judged;
    const took = performance.now() - started;
    expect(verification).toMatchObject({
      code: 'out-of-time',
      reason: 'the verification did not end within 500 ms, of which the host grants 50 of CPU time',
    });
    expect(took).toBeGreaterThanOrEqual(500);
    expect(isAlive(judge.pid!)).toBe(false);
  });

  it('is ended at the CPU time that it may use, at the latest by the host', async () => {
    const judge = judgeOf(verifierThat('if (calls > 1) for (;;); return ACCEPTED;'), {
      ...LIMITS,
      milliseconds: 400,
    });
    await judge.verify(PASS);
    const { verification } = await judge.verify(PASS);
    expect(verification).toMatchObject({
      code: 'out-of-time',
      reason: "the verification took more than 400 ms of CPU time, the host's limit",
    });
    judge.close();
  });
});

describe('the pool of judges', () => {
  it('uses a judge again, and none that was ended', async () => {
    const pool = new JudgePool();
    const recipe = verifierThat(
      'if (request.program.name === "slow") for (;;); return { ...ACCEPTED, log: String(process.pid) };',
    );
    const limits = { ...LIMITS, milliseconds: 500 };
    const pid = async () => (await pool.verify(recipe, limits, PASS)).verification.log;
    const first = await pid();
    expect(await pid()).toBe(first);
    expect(pool.idle).toBe(1);
    const slow = { ...PASS, program: { ...PASS.program, name: 'slow' } };
    expect((await pool.verify(recipe, limits, slow)).verification).toMatchObject({ code: 'out-of-time' });
    expect(pool.idle).toBe(0);
    expect(isAlive(Number(first))).toBe(false);
    expect(await pid()).not.toBe(first);
    pool.close();
    expect(pool.idle).toBe(0);
  });

  describe.runIf(process.platform === 'linux')('tells what the start of a process took', () => {
    const BUSY_MS = 100;
    const busy = `for (const { user } = process.cpuUsage(); process.cpuUsage().user - user < ${1000 * BUSY_MS}; );`;
    const sum = (all: readonly number[]): number => all.reduce((total, each) => total + each, 0);

    it('to whom it was started for, though that gave up meanwhile, and to nobody else', async () => {
      const pool = new JudgePool();
      const recipe = verifierThat('return ACCEPTED;', busy);
      const costs = { first: [] as number[], others: [] as number[] };
      for (const who of ['first', 'others', 'others'] as const) {
        const abort = new AbortController();
        const asked = { ...PASS, signal: abort.signal };
        const verification = pool.verify(recipe, LIMITS, asked, (ms) => costs[who].push(ms));
        abort.abort(new Error('a reset'));
        await expect(verification).rejects.toThrow('a reset');
        // It goes on with what the next will need.
        expect(pool.idle).toBe(1);
      }
      await pool.verify(recipe, LIMITS, PASS, (ms) => costs.others.push(ms));
      expect(sum(costs.first)).toBeGreaterThanOrEqual(BUSY_MS);
      expect(costs.others).toHaveLength(3);
      expect(sum(costs.others)).toBeLessThan(BUSY_MS);
      pool.close();
    });

    it('though nothing can be made ready in it', async () => {
      const pool = new JudgePool();
      const recipe = verifierThat('return ACCEPTED;', `${busy} throw new Error('not today');`);
      const costs: number[] = [];
      await expect(pool.verify(recipe, LIMITS, PASS, (ms) => costs.push(ms))).rejects.toThrow('not today');
      expect(sum(costs)).toBeGreaterThanOrEqual(BUSY_MS);
    });

    it('and not what it took when nobody had asked yet', async () => {
      const pool = new JudgePool();
      const recipe = verifierThat('return ACCEPTED;', busy);
      pool.prepare(LIMITS, [recipe]);
      const costs: number[] = [];
      await pool.verify(recipe, LIMITS, PASS, (ms) => costs.push(ms));
      expect(costs).toHaveLength(1);
      expect(sum(costs)).toBeLessThan(BUSY_MS);
      pool.close();
    });
  });

  it('has one that was prepared judge by each of its recipes', async () => {
    const pool = new JudgePool();
    const recipes = ['one', 'two', 'three'].map((name) =>
      verifierThat(`return { ...ACCEPTED, log: '${name} ' + calls + ' ' + process.pid };`),
    );
    pool.prepare(LIMITS);
    expect(pool.idle).toBe(1);
    pool.prepare(LIMITS, recipes.slice(0, 2));
    expect(pool.idle).toBe(1);
    const logs: string[] = [];
    // The last one nobody had announced.
    for (const recipe of [...recipes, recipes[0]!]) {
      logs.push((await pool.verify(recipe, LIMITS, PASS)).verification.log!);
    }
    const pid = logs[0]!.split(' ')[2];
    expect(logs).toEqual([`one 1 ${pid}`, `two 1 ${pid}`, `three 1 ${pid}`, `one 2 ${pid}`]);
    pool.close();
  });

  it('tells who verifies what went wrong with what was prepared', async () => {
    const pool = new JudgePool();
    const recipe: JudgeRecipe = {
      rule: 'all',
      verifiers: [{ module: pathToFileURL(join(folder, 'none.mjs')).href, config: {} }],
    };
    pool.prepare(LIMITS, [recipe]);
    await expect(pool.verify(recipe, LIMITS, PASS)).rejects.toThrow('none.mjs');
    expect(pool.idle).toBe(0);
  });

  it('takes no memory of one verifier for that of another’s program', async () => {
    const held = 'globalThis.held = new Uint8Array(100 << 20).fill(1);';
    const path = join(folder, 'large.mjs');
    // Long enough to be looked at.
    const slow = 'await new Promise((resolve) => setTimeout(resolve, 200)); return ACCEPTED;';
    const small = verifierThat(slow);
    const large = verifierThat(slow);
    writeFileSync(path, `${held} export { default } from ${JSON.stringify(large.verifiers[0]!.module)};`);
    const pool = new JudgePool();
    const limits = { ...LIMITS, memoryMiB: 64 };
    const accepted = async (recipe: JudgeRecipe) =>
      (await pool.verify(recipe, limits, PASS)).verification.accepted;
    expect(await accepted(small)).toBe(true);
    const own = { ...large, verifiers: [{ module: pathToFileURL(path).href, config: {} }] };
    expect(await accepted(own)).toBe(true);
    expect(await accepted(small)).toBe(true);
    pool.close();
  });

  it('does not use a judge with other limits, and keeps few', async () => {
    const pool = new JudgePool();
    const recipe = verifierThat('return { ...ACCEPTED, log: String(process.pid) };');
    const pids = new Set<unknown>();
    for (const milliseconds of [1000, 2000, 3000, 4000]) {
      pids.add(
        (await pool.verify(recipe, { ...LIMITS, milliseconds: milliseconds * 10 }, PASS)).verification.log,
      );
    }
    expect(pids.size).toBe(4);
    expect(pool.idle).toBe(2);
    pool.close();
  });
});

describe('a judge of a process that is killed', () => {
  it('ends, though its verifier does not give way', async () => {
    const recipe = verifierThat('for (;;);');
    const main = new URL('../../../dist/src/core/verification/judge-process.js', import.meta.url).href;
    const script = join(folder, 'parent.mjs');
    writeFileSync(
      script,
      `import { JudgeProcess } from ${JSON.stringify(main)};
       const judge = new JudgeProcess(${JSON.stringify(LIMITS)});
       const program = { name: 'p', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns: [] };
       void judge.verify(${JSON.stringify(recipe)}, { program, maps: new Map() });
       setTimeout(() => console.log(judge.pid), 1500);`,
    );
    const parent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'ignore'] });
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(line.toString());
    expect(isAlive(pid)).toBe(true);
    parent.kill('SIGKILL');
    await expect.poll(() => isAlive(pid), { timeout: 20_000, interval: 100 }).toBe(false);
  });
});

describe('a verifier that speaks for itself', () => {
  it.each([
    ['null over its channel', 'process.send(null); await new Promise(() => {});', 'sent what is no answer'],
    ['nothing', 'return undefined;', 'no verification'],
    ['something else', 'return { fine: true };', 'no verification'],
  ])('and gives %s is a failure', async (_, body, message) => {
    await expect(judged(verifierThat(body))).rejects.toThrow(message);
  });
});
