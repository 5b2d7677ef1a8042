// Generated from snapshot.v1.json by tests/ui/schema_types.py.

export interface Attempt {
  try: number;
  /** Raised by a clear, and not by a retry. */
  epoch: number;
}

export type State = "UNSUBMITTED" | "SUBMITTED" | "PENDING" | "RUNNING" | "SUCCEEDED" | "FAILED" | "CANCELLED" | "UNKNOWN";

export type Writer = "worker" | "trigger";

export interface Origin {
  dag_id: string;
  run_id: string;
  task_id: string;
  map_index: number;
}

export type Transition = [number, State];

export interface Limit {
  mem?: number;
  cpu?: number;
  gpu_mem?: number;
}

export interface Peak {
  mem?: number;
  cpu?: number;
  cpu_s?: number;
  gpu?: number;
  gpu_mem?: number;
}

export interface Net {
  rx: number;
  tx: number;
}

export interface Usage {
  start: number;
  interval_s: number;
  cpu?: (number | null)[];
  mem?: (number | null)[];
  gpu?: (number | null)[];
}

export interface Replica {
  id: number;
  name: string;
  /** The first 12 digits of its id; empty if it is gone. */
  container: string;
  state: State;
  exit: number | null;
  signal: string | null;
  oom: boolean;
  stalled: boolean;
  round: number;
  /** By the daemon, and by new rounds. */
  restarts: number;
  gpus: string[];
  /** Why it did not start; null also in a snapshot of a trigger. */
  error: string | null;
  /** Transitions: seconds since 1970, and the new state. */
  t: Transition[];
  /** Memory in bytes and CPUs; a field without a limit is missing. */
  limit?: Limit;
  /** The highest samples; cpu_s is the CPU time, gpu is in percent. */
  peak?: Peak;
  /** Bytes received and sent by its current container. */
  net?: Net;
  /** The highest sample of each interval; null without one. All lines of an app begin at the same time. */
  usage?: Usage;
}

export interface Role {
  name: string;
  n: number;
  image: string;
  /** Whether the state of the app does not depend on it. */
  auxiliary?: boolean;
  /** Number of replicas in each state. */
  counts: Record<string, number>;
  replicas: Replica[];
}

export type Kind = "oom" | "stalled" | "lost" | "start" | "signal" | "exit" | "cancel";

export interface Worker {
  rank: number | null;
  exit: number | null;
  signal: string | null;
  message: string | null;
}

export interface Failure {
  role?: string;
  id?: number;
  at?: number | null;
  kind: Kind;
  exit?: number | null;
  signal?: string | null;
  rule?: string | null;
  worker?: null | Worker;
  structured?: string | null;
  lines: string[];
  peers_stopped: number;
}

export interface First {
  step: number;
  at: number;
}

export interface Progress {
  step: number;
  /** The last step; null if the program does not say so. */
  total?: number | null;
  metrics: Record<string, number>;
  /** When the step was seen first. */
  at: number;
  /** Estimated seconds from at to the last step; null if they cannot be known. */
  eta_s?: number | null;
  /** Where the estimate begins: the first report of the container, or since the step went back. */
  first?: First;
}

export interface Snapshot {
  schema: 1;
  app_id: string;
  handle: string;
  attempt: Attempt;
  state: State;
  /** Grows; a reader drops older ones. */
  seq: number;
  observed_at: number;
  writer: Writer;
  created: number | null;
  finished: number | null;
  n_replicas: number;
  /** Whether replicas are left out of roles; counts has all. */
  truncated: boolean;
  origin: Origin;
  roles: Role[];
  failure: null | Failure;
  /** What the first replica of the first essential role reports; null if it reports nothing. */
  progress: null | Progress;
}
