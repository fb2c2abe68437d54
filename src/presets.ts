import type { Plugin } from './core/contract/plugin.js';
import differential from '../plugins/executor-differential/index.js';
import interpreter from '../plugins/executor-interpreter/index.js';
import wasm from '../plugins/executor-wasm/index.js';
import modelFabric from '../plugins/fabric-model/index.js';
import memoryMaps from '../plugins/map-backend-memory/index.js';
import helperAllowList from '../plugins/policy-helper-allow-list/index.js';
import programLimits from '../plugins/policy-program-limits/index.js';
import quota from '../plugins/policy-quota/index.js';
import csvReporter from '../plugins/reporter-csv/index.js';
import jsonReporter from '../plugins/reporter-json/index.js';
import junitReporter from '../plugins/reporter-junit/index.js';
import ndjsonReporter from '../plugins/reporter-ndjson/index.js';
import tableReporter from '../plugins/reporter-table/index.js';
import virtqueueTransport from '../plugins/transport-virtqueue/index.js';
import abstractVerifier from '../plugins/verifier-abstract/index.js';
import kernelVerifier from '../plugins/verifier-kernel/index.js';
import structuralVerifier from '../plugins/verifier-structural/index.js';
import imix from '../plugins/workload-imix/index.js';
import pcapReplay from '../plugins/workload-pcap-replay/index.js';
import udpFlood from '../plugins/workload-udp-flood/index.js';

/** The only place that names the plugins this package brings. */
export const BUILT_IN_PLUGINS: readonly Plugin[] = [
  virtqueueTransport,
  structuralVerifier,
  abstractVerifier,
  kernelVerifier,
  interpreter,
  wasm,
  differential,
  memoryMaps,
  helperAllowList,
  quota,
  programLimits,
  modelFabric,
  udpFlood,
  imix,
  pcapReplay,
  tableReporter,
  jsonReporter,
  ndjsonReporter,
  junitReporter,
  csvReporter,
];
