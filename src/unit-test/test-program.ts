import type { MapSpec } from '../bpf/map-spec.js';
import type { BpfMap } from '../bpf/runtime/bpf-map.js';
import type { Acceptance } from '../core/contract/verifier.js';
import { XdpbedError } from '../core/diagnostic.js';
import { nearest } from '../core/nearest.js';
import { setOwn } from '../core/own-property.js';
import { isGlobalData } from '../core/testbed/map-values.js';
import type { PacketInput, PacketOutcome, ProgramSession } from '../core/program-test/program-session.js';
import { buildFrame, type FrameSpec } from '../packet/frame-builder.js';
import { programGlobals } from './program-globals.js';
import { ProgramMap, type MapOwner } from './program-map.js';

/** A program that is loaded and can be given packets; `loadProgram` makes one. */
export class TestProgram<Maps = Readonly<Record<string, ProgramMap>>, Globals = Record<string, unknown>> {
  /** The maps that are loaded with the program, by name, those of global variables left out. */
  readonly maps: Maps;
  /** Global variables by name. Reading gives what one is now; what the program can change, a test can assign, too. */
  readonly globals: Globals;
  readonly #declared: readonly MapSpec[];
  readonly #used = new Map<string, ProgramMap>();
  readonly #session: ProgramSession;
  readonly #stop: () => Promise<void>;
  #isClosed = false;

  /** @param stop stops what the program runs on */
  constructor(session: ProgramSession, stop: () => Promise<void>) {
    this.#session = session;
    this.#stop = stop;
    const { object } = session;
    this.#declared = object.maps;
    const maps: Record<string, ProgramMap> = {};
    const owner: MapOwner = {
      object,
      isLoaded: (part) => {
        const { maps: loadedMaps, programs } = this.#open().loaded;
        return 'mapName' in part ? loadedMaps.has(part.mapName) : programs.has(part.programName);
      },
      place: (name, element) => this.#open().place(name, [element]),
    };
    for (const spec of object.maps) {
      if (!session.maps.has(spec.name)) continue;
      const map = new ProgramMap(spec, owner, () => this.#current(spec.name)!);
      this.#used.set(spec.name, map);
      if (!isGlobalData(spec)) setOwn(maps, spec.name, map);
    }
    this.maps = maps as Maps;
    this.globals = programGlobals(object.maps, (name) => this.#current(name)) as Globals;
  }

  /** What the verifier found out: what the program may return, how many insns it may take. */
  get verification(): Acceptance {
    return this.#session.loaded.verification;
  }

  /** Lines of bpf_trace_printk since the last `reset`. */
  get traces(): readonly string[] {
    return this.#session.traces.map((line) => line.replace(/\n$/, ''));
  }

  /**
   * Gives the program one packet: bytes, or what `buildFrame` of `xdpbed/packet` makes them of. Maps keep what earlier
   * packets left in them.
   *
   * An outcome with `fault` is of a program that did what a verified one cannot do, and was stopped; its verdict is
   * XDP_ABORTED. Throws `packet-invalid` for a frame that is too long or cannot be built, `usage` for a CPU that there is
   * not, and `executor-unsupported` where `random` is given and the executor has its own.
   */
  run(packet: Uint8Array | FrameSpec, input?: PacketInput): PacketOutcome {
    return this.#open().run(packet instanceof Uint8Array ? packet : buildFrame(packet), input);
  }

  /** A map by name. Throws `usage` for one that the program does not use or the object does not have. */
  map(name: string): ProgramMap {
    const found = this.#used.get(name);
    if (found !== undefined) return found;
    const isDeclared = this.#declared.some((map) => map.name === name);
    const names = [...this.#used.keys()];
    const near = nearest(name, names);
    throw new XdpbedError(
      'usage',
      isDeclared ? `the program does not use map '${name}'` : `the object has no map '${name}'`,
      { hint: near === undefined ? `maps: ${names.join(', ') || 'none'}` : `did you mean '${near}'?` },
    );
  }

  /**
   * Takes maps, globals, records, random numbers and traces back to where they were after loading. With an executor of this
   * process that is done when the call returns; the kernel's loads the program again, which is to be awaited.
   */
  reset(): Promise<void> {
    return this.#open().reset();
  }

  /** Unloads the program and stops what it runs on; maps are gone with it. The second and later calls do nothing. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#session.close();
    await this.#stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #current(name: string): BpfMap | undefined {
    return this.#open().maps.get(name);
  }

  #open(): ProgramSession {
    if (this.#isClosed) throw new XdpbedError('usage', 'the program is closed');
    return this.#session;
  }
}
