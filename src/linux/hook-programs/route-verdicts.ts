import { assemble } from '../../bpf/assembler.js';
import type { Program } from '../../bpf/program.js';
import { fetchKept, findKeeper, keepRegister, type Keeper } from '../../bpf/rewrite/keeper.js';
import { ProgramEditor } from '../../bpf/rewrite/program-editor.js';
import { XDP_ABORTED, XDP_ACTION_NAMES, type XdpActionName } from '../../bpf/xdp.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import { formatInsn } from '../../bpf/disassembler.js';
import { writeMarkText, type FrameMark } from './frame-mark.js';
import { mainFunctionEnd, mayLeaveOtherwise, replaceExits, whyNotOurs } from './main-function.js';
import { refuse, rewritten, type Rewriting } from './rewriting.js';
import { COUNTING_STACK, countingText, freeAtExit } from './verdict-counters.js';

/** What becomes of a verdict. Handles are those of maps, as `lddw` carries them. */
export type VerdictRoute =
  /** It is returned as it is, or as another one. */
  | { readonly action: 'return'; readonly as?: XdpActionName }
  /**
   * It is returned, with a mark in front of the frame. Where there is no room for one, XDP_ABORTED is, and counted in its
   * place.
   */
  | { readonly action: 'mark'; readonly mark: FrameMark }
  /** The program at `index` of a PROG_ARRAY goes on with the frame; where there is none, `ifEmpty` is returned. */
  | {
      readonly action: 'tail-call';
      readonly programs: number;
      readonly index: number;
      readonly ifEmpty: XdpActionName;
    }
  /** What bpf_redirect_map returns: XDP_REDIRECT, or the low two bits of `flags` where nothing is under `key`. */
  | {
      readonly action: 'redirect-map';
      readonly map: number;
      readonly key: number;
      readonly flags: number;
    };

export type VerdictRoutes = Partial<Record<XdpActionName, VerdictRoute>>;

export interface ExitOptions {
  /** A map of VERDICT_COUNTERS_MAP, by handle. */
  readonly counters?: number | undefined;
  /** Bytes of stack that the main function uses, where a verifier told; else it is read off the insns. */
  readonly stackBytes?: number | undefined;
  readonly facts?: ProgramFacts | undefined;
}

export interface Counting {
  /**
   * The program makes a tail call in its main function, or calls a kfunc: where that does not come back, the verdict is
   * neither counted nor routed.
   */
  readonly mayLeaveUncounted: boolean;
}

/**
 * Counts what the program returns, by verdict, before it is returned: `counters` is a map of VERDICT_COUNTERS_MAP. Each
 * `exit` of the main function is caught; verdict, packet and maps of the program's own stay as they were.
 */
export function countVerdicts(
  program: Program,
  options: ExitOptions & { readonly counters: number },
): Rewriting<Counting> {
  return routeVerdicts(program, {}, options);
}

/**
 * Counts what an XDP program returns, if it is told where, and then does what `routes` say of the verdict; a verdict
 * without a route is returned. A value that is no verdict goes the way of XDP_ABORTED, as in the kernel.
 *
 * The context is kept for the exit in a register that the main function leaves alone, or else in 8 bytes of stack below
 * what it uses; where there is neither, the program is refused, and so is one that names a map of the hook's itself. What a program redirected to before it returned something
 * else is forgotten with the next redirect.
 */
export function routeVerdicts(
  program: Program,
  routes: VerdictRoutes,
  options: ExitOptions = {},
): Rewriting<Counting> {
  const editor = new ProgramEditor(program);
  const body = program.insns.slice(0, mainFunctionEnd(program));
  const routed = XDP_ACTION_NAMES.flatMap((name, verdict) => {
    const route = routes[name];
    return route === undefined || (route.action === 'return' && route.as === undefined)
      ? []
      : [{ verdict, route }];
  });
  const refusal = whyNotOurs(program, [options.counters, ...routed.map(({ route }) => mapOf(route))]);
  if (refusal !== undefined) return refusal;
  let context: Keeper | undefined;
  if (routed.some(({ route }) => route.action === 'tail-call' || route.action === 'mark')) {
    context = findKeeper(body, { stackBytes: options.stackBytes, scratchBytes: COUNTING_STACK });
    if (context === undefined) {
      return refuse(
        'the main function leaves neither a register nor 8 bytes of stack to keep the context in',
      );
    }
    editor.insertBefore(0, { insns: [keepRegister(context, 1)] }, { jumps: 'past' });
  }
  const counting =
    options.counters === undefined
      ? ''
      : countingText(options.counters, freeAtExit(body, context === undefined ? [] : [context]));
  const text = [
    ...routed.map(({ verdict, route }) =>
      route.action === 'mark' ? markText(verdict, route.mark, context!) : '',
    ),
    counting,
    ...routed.map(({ verdict, route }) => routeText(verdict, route, context)),
    'exit',
  ].join('\n');
  replaceExits(editor, program, { insns: assemble(text) });
  return { ...rewritten(editor.finish(), options.facts), mayLeaveUncounted: mayLeaveOtherwise(program) };
}

/** Before it is counted: the mark, or another verdict. */
function markText(verdict: number, mark: FrameMark, context: Keeper): string {
  return `
      if w0 != ${verdict} goto counting_${verdict}
      ${writeMarkText(mark, context, `no_room_${verdict}`)}
      w0 = ${verdict}
      goto counting_${verdict}
    no_room_${verdict}:
      w0 = ${XDP_ABORTED}
    counting_${verdict}:`;
}

/** The hook's own map that a route works with. */
function mapOf(route: VerdictRoute): number | undefined {
  if (route.action === 'tail-call') return route.programs;
  return route.action === 'redirect-map' ? route.map : undefined;
}

function routeText(verdict: number, route: VerdictRoute, context: Keeper | undefined): string {
  if (route.action === 'mark') return '';
  const condition =
    verdict === 0
      ? `if w0 == 0 goto route_0
         if w0 < ${XDP_ACTION_NAMES.length} goto after_0
       route_0:`
      : `if w0 != ${verdict} goto after_${verdict}`;
  const action =
    route.action === 'return'
      ? `w0 = ${XDP_ACTION_NAMES.indexOf(route.as!)}`
      : route.action === 'tail-call'
        ? `${formatInsn([fetchKept(context!, 1)], 0)}
         r2 = map[fd:${route.programs}]
         w3 = ${route.index}
         call bpf_tail_call
         w0 = ${XDP_ACTION_NAMES.indexOf(route.ifEmpty)}`
        : `r1 = map[fd:${route.map}]
         w2 = ${route.key}
         w3 = ${route.flags}
         call bpf_redirect_map`;
  return `${condition}\n${action}\nexit\nafter_${verdict}:`;
}
