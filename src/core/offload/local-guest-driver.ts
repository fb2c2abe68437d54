import { parseObjectFile } from '../../bpf/object-file.js';
import type { MapRecord } from '../../bpf/runtime/bpf-map.js';
import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import { XdpbedError } from '../diagnostic.js';
import type { LocalDriver } from '../contract/fabric.js';
import type {
  ControlCounts,
  GuestDriver,
  GuestMapContent,
  GuestView,
  InstallAnswer,
  InstallRequest,
  RequestsOrder,
  RequestsReport,
} from '../contract/guest-driver.js';
import type { Party } from '../contract/party.js';
import type { ViewName } from '../contract/plan.js';
import type { VerdictCounts } from '../contract/result.js';
import { CountedPlace } from './counted-place.js';
import { readGuestMap, type GuestMap } from './guest-map.js';
import { guestView } from './guest-tool.js';
import { driverHelpers } from './driver-helpers.js';
import { OffloadNetdev } from './offload-netdev.js';
import { protocolOf } from './protocol/protocol-of.js';
import { objectProgram } from './object-program.js';
import { sendSeries, type RequestSeries } from './request-series.js';

/** Elements of one map that a result has at most: a bigger map would hold the run, and what reads the result. */
const MAX_KEYS_READ = 1 << 20;
/** Records of one map, likewise. */
const MAX_RECORDS_READ = 1 << 12;

export interface LocalGuestDriverOptions {
  readonly guest: string;
  readonly nic: string;
  readonly driver: LocalDriver;
  /** The guest's own kernel. */
  readonly party: Party;
  /** What helpers see in the guest. */
  readonly world: HelperWorld;
  /** Negotiated feature bits: what the device understands. */
  readonly features: bigint;
  /** Sends programs and maps to the device as they are, without the checks of a well-behaved driver. */
  readonly hostile: boolean;
  /** As GuestNicPlan.driverHelpers. */
  readonly driverHelpers?: readonly string[] | undefined;
  /** Called for each key of a map that is read; what it returns is awaited. */
  readonly giveWay?: (() => Promise<void> | undefined) | undefined;
}

/** A guest in this process: its kernel is a party, its netdevice the core's own. */
export class LocalGuestDriver implements GuestDriver {
  readonly #place: CountedPlace;
  readonly #netdev: OffloadNetdev;

  constructor(readonly options: LocalGuestDriverOptions) {
    const { guest, nic, driver, party, world, hostile, features } = options;
    const helpers = driverHelpers(hostile ? ['any'] : options.driverHelpers);
    this.#place = new CountedPlace(driver.hook);
    this.#netdev = new OffloadNetdev({
      guest,
      nic,
      control: driver.control,
      protocol: protocolOf(features),
      party,
      world,
      hook: this.#place,
      offloadableHelpers: helpers,
      ...(hostile ? { verifyBeforeOffload: false, offloadableMapTypes: 'any' as const } : {}),
    });
  }

  /** Queue pairs to use, which a device with several has to be told. Throws `virtio-violation` when it refuses. */
  async setQueuePairs(pairs: number): Promise<void> {
    const set = await this.#netdev.setQueuePairs(pairs);
    if (set.ok) return;
    throw new XdpbedError(
      'virtio-violation',
      `${this.#netdev.label}: ${pairs} queue pairs were refused: ${set.message}`,
    );
  }

  async install({ program, object, placement }: InstallRequest): Promise<InstallAnswer> {
    const spec = parseObjectFile(object, program.object, program);
    const attached = await this.#netdev.install(
      spec,
      objectProgram(spec, program),
      placement === 'host' ? 'offload' : 'driver',
      { initial: new Map(Object.entries(program.presets)) },
    );
    return attached.ok ? { attached: true } : { attached: false, reason: attached.message };
  }

  async readMaps(): Promise<GuestMapContent[]> {
    const contents: GuestMapContent[] = [];
    for (const [name, map] of this.#netdev.query()?.program.maps ?? []) {
      if (map.readRecords !== undefined) {
        contents.push({
          name,
          type: map.spec.type,
          readFrom: map.readFrom,
          ...(await readRecords(map.readRecords)),
        });
        continue;
      }
      const read = await readGuestMap(map, this.options.giveWay, MAX_KEYS_READ);
      const isPart = read.ok && read.value.length === MAX_KEYS_READ && map.spec.maxEntries > MAX_KEYS_READ;
      contents.push({
        name,
        type: map.spec.type,
        readFrom: map.readFrom,
        ...(read.ok ? { entries: read.value } : { entries: [], unreadable: read.message }),
        ...(isPart ? { unreadable: `only the first ${MAX_KEYS_READ} elements were read` } : {}),
      });
    }
    return contents;
  }

  async sendRequests({ ask, ...when }: RequestsOrder): Promise<RequestsReport> {
    const send = ask.kind === 'load' ? this.#loading(ask.install) : await this.#lookingUp(ask.map);
    return sendSeries({ send, ...when });
  }

  #loading({ program, object }: InstallRequest): RequestSeries['send'] {
    const spec = parseObjectFile(object, program.object, program);
    const chosen = objectProgram(spec, program);
    const initial = new Map(Object.entries(program.presets));
    return async () => {
      const attached = await this.#netdev.install(spec, chosen, 'offload', { initial });
      return attached.ok ? undefined : attached.message;
    };
  }

  async #lookingUp(name: string): Promise<RequestSeries['send']> {
    const map = this.#netdev.query()?.program.maps.get(name);
    if (map === undefined) {
      // Its program was refused, say: whoever reads the result sees that nothing was asked.
      return async () => `no map ${name} is attached`;
    }
    const key = await map.getFirst();
    return async () => {
      if (!key.ok) return key.message;
      const value = await map.lookup(key.value);
      return value.ok ? undefined : value.message;
    };
  }

  show(view: ViewName): Promise<GuestView> {
    return guestView(this.#netdev.tool, this.options.nic, view);
  }

  counters(): Promise<VerdictCounts | undefined> {
    return this.#place.counters();
  }

  async control(): Promise<ControlCounts> {
    return this.#netdev.controlCounts;
  }

  async close(): Promise<void> {
    await this.#netdev.close();
  }
}

/** What programs wrote, up to a limit. */
async function readRecords(
  read: NonNullable<GuestMap['readRecords']>,
): Promise<Pick<GuestMapContent, 'entries' | 'records' | 'unreadable'>> {
  const records: MapRecord[] = [];
  while (records.length < MAX_RECORDS_READ) {
    const more = await read();
    if (!more.ok) return { entries: [], records, unreadable: more.message };
    if (more.value.length === 0) return { entries: [], records };
    records.push(...more.value.slice(0, MAX_RECORDS_READ - records.length));
  }
  return { entries: [], records, unreadable: `only the first ${MAX_RECORDS_READ} records were read` };
}
