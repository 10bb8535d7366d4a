// The shapes of what the page reads. The first part mirrors `partsong/events.py` with its values, as JSON has them;
// tests/server/test_page_code.py compares the two field by field. A field that JSON may leave out has a question mark.
// Dollars are decimal strings, times are seconds, indices begin at 0.

export interface RunStarted {
  event: "run_started";
  recipe: Recipe;
  conversation: Conversation;
  dropped?: Loss[];
  again?: string;
}

export interface Recipe {
  name: string;
  layers: Layer[];
  aggregator: Aggregator;
  about?: string;
  date?: string | null;
  layout?: "paper" | "tail";
  instruction?: string | null;
  deadline?: number | null;
  reserve?: number;
  max_dollars?: string | null;
  strict?: boolean;
  fit?: "fail" | "truncate" | "window";
  last_resort?: "best_proposal" | "fail";
  seed?: number | null;
  advice?: "calls" | "every_step" | "user_turn" | number;
  analyst?: Analyst | null;
  same?: "final" | "text";
}

export interface Layer {
  agents: Agent[];
  quorum?: number | null;
  grace?: number | null;
  deadline?: number | null;
  agree?: number | null;
  at_once?: number | null;
  sees?: "all" | "none" | "split" | number;
  comments?: boolean;
  instruction?: string | null;
}

export interface Agent {
  model: string;
  samples?: number;
  temperature?: number | null;
  top_p?: number | null;
  max_tokens?: number | null;
  seed?: number | null;
  stop?: string[];
  system?: string;
  fallback?: string[];
  effort?: string | null;
  instruction?: string | null;
  tools?: string[];
  steps?: number | null;
  extra?: Record<string, unknown>;
}

export interface Aggregator {
  model?: string;
  samples?: number;
  temperature?: number | null;
  top_p?: number | null;
  max_tokens?: number | null;
  seed?: number | null;
  stop?: string[];
  system?: string;
  fallback?: string[];
  effort?: string | null;
  instruction?: string | null;
  tools?: string[];
  steps?: number | null;
  extra?: Record<string, unknown>;
  method?: "select" | "synthesize" | "vote";
  majority?: number;
  otherwise?: "fail" | "select" | "synthesize";
}

export interface Analyst {
  model: string;
  samples?: number;
  temperature?: number | null;
  top_p?: number | null;
  max_tokens?: number | null;
  seed?: number | null;
  stop?: string[];
  system?: string;
  fallback?: string[];
  effort?: string | null;
  instruction?: string | null;
  tools?: string[];
  steps?: number | null;
  extra?: Record<string, unknown>;
}

export interface Conversation {
  messages: Message[];
  tools?: Tool[];
  tool_choice?: string | null;
  response_format?: string | null;
  sampling?: Sampling;
  parallel_tool_calls?: boolean | null;
}

export interface Message {
  role: "assistant" | "system" | "tool" | "user";
  parts: (Text | Image | Document | Reasoning | ToolCall | ToolResult)[];
  name?: string;
}

export interface Text {
  type: "text";
  text: string;
  mark?: "" | "1h" | "5m";
}

export interface Image {
  type: "image";
  data?: string;
  media_type?: string;
  url?: string;
  mark?: "" | "1h" | "5m";
  detail?: string;
}

export interface Document {
  type: "document";
  data?: string;
  media_type?: string;
  name?: string;
  text?: string;
  pages?: number;
  pages_read?: number;
  left_out?: string;
  mark?: "" | "1h" | "5m";
}

export interface Reasoning {
  type: "reasoning";
  text: string;
  signature?: string;
}

export interface ToolCall {
  type: "tool_call";
  id: string;
  name: string;
  arguments: string;
  mark?: "" | "1h" | "5m";
  signature?: string;
}

export interface ToolResult {
  type: "tool_result";
  call_id: string;
  parts: (Text | Image | Document)[];
  is_error?: boolean;
  mark?: "" | "1h" | "5m";
}

export interface Tool {
  name: string;
  description?: string;
  parameters?: string;
  strict?: boolean | null;
  mark?: "" | "1h" | "5m";
  eager?: boolean;
}

export interface Sampling {
  temperature?: number | null;
  top_p?: number | null;
  max_tokens?: number | null;
  seed?: number | null;
  stop?: string[];
  top_k?: number | null;
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  effort?: string | null;
  thinking?: number | null;
  verbosity?: string | null;
  top_logprobs?: number | null;
  thinks?: boolean | null;
}

export interface Loss {
  layer: number;
  seat: number;
  model: string;
  cause:
    | "auth"
    | "billing"
    | "budget"
    | "cancelled"
    | "content_filter"
    | "cut_off"
    | "empty"
    | "invalid"
    | "network"
    | "no_majority"
    | "no_proposals"
    | "rate"
    | "refused"
    | "resting"
    | "server"
    | "timeout"
    | "truncated"
    | "window";
  message: string;
  kind: "cut_off" | "dropped" | "failed" | "replaced" | "shortened" | "truncated";
  replaced_by: string;
}

export interface LayerStarted {
  event: "layer_started";
  layer: number;
  models: string[];
}

export interface ProposalStarted {
  event: "proposal_started";
  layer: number;
  seat: number;
  model: string;
  /** Layer and seat of everything that the seat reads; left out if it reads all that is there. */
  saw?: [number, number][] | null;
}

export interface ProposalDelta {
  event: "proposal_delta";
  layer: number;
  seat: number;
  delta: TextDelta | ReasoningDelta | ToolCallDelta;
}

export interface TextDelta {
  type: "text";
  text: string;
}

export interface ReasoningDelta {
  type: "reasoning";
  text: string;
}

export interface ToolCallDelta {
  type: "tool_call";
  index: number;
  id?: string;
  name?: string;
  arguments?: string;
}

export interface ProposalReplaced {
  event: "proposal_replaced";
  layer: number;
  seat: number;
  model: string;
  error: Failure;
  usage?: Usage | null;
}

export interface Failure {
  cause:
    | "auth"
    | "billing"
    | "budget"
    | "cancelled"
    | "content_filter"
    | "cut_off"
    | "empty"
    | "invalid"
    | "network"
    | "no_majority"
    | "no_proposals"
    | "rate"
    | "refused"
    | "resting"
    | "server"
    | "timeout"
    | "truncated"
    | "window";
  message: string;
  status?: number | null;
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cached_input_tokens: number;
  reasoning_tokens: number;
  dollars: string | null;
  estimated: boolean;
  cache_write_tokens: number;
}

export interface PromptFitted {
  event: "prompt_fitted";
  layer: number;
  seat: number;
  model: string;
  before: number;
  after: number;
  cuts: Cut[];
}

export interface Cut {
  proposal: number;
  before: number;
  after: number;
}

export interface ProposalFinished {
  event: "proposal_finished";
  layer: number;
  seat: number;
  answer: Answer;
  model: string;
}

export interface Answer {
  parts: (Text | Image | Document | Reasoning | ToolCall | ToolResult)[];
  finish_reason: "content_filter" | "length" | "stop" | "tool_calls";
  usage: Usage;
  model: string;
  stored: Usage | null;
  logprobs?: Record<string, number>[];
  caveats?: Caveat[];
  text: string;
}

export interface Caveat {
  kind: "shortened" | "truncated";
  message: string;
}

export interface ProposalFailed {
  event: "proposal_failed";
  layer: number;
  seat: number;
  error: Failure;
  usage?: Usage | null;
}

export interface ProposalSpared {
  event: "proposal_spared";
  layer: number;
  seat: number;
  usage?: Usage | null;
}

export interface CallFinished {
  event: "call_finished";
  layer: number;
  seat: number;
  model: string;
  started: number;
  seconds: number;
  usage?: Usage | null;
  error?: Failure | null;
  stored?: boolean;
  stored_usage?: Usage | null;
}

export interface ToolUsed {
  event: "tool_used";
  layer: number;
  seat: number;
  model: string;
  server: string;
  tool: string;
  arguments: string;
  started: number;
  seconds: number;
  size?: number;
  error?: string;
  dollars?: string;
  sources?: string[];
}

export interface LayerFinished {
  event: "layer_finished";
  layer: number;
  answered: number;
}

export interface AnalysisStarted {
  event: "analysis_started";
  model: string;
}

export interface AnalysisReplaced {
  event: "analysis_replaced";
  model: string;
  error: Failure;
  usage?: Usage | null;
}

export interface AnalysisFinished {
  event: "analysis_finished";
  analysis: Analysis;
  model: string;
}

export interface Analysis {
  agreements: Claim[];
  contradictions: Contradiction[];
  single: Claim[];
  gaps: string[];
  dropped: number;
}

export interface Claim {
  statement: string;
  quotes: Quote[];
}

export interface Quote {
  seat: number;
  text: string;
  start: number;
  end: number;
}

export interface Contradiction {
  topic: string;
  positions: Claim[];
}

export interface AnalysisFailed {
  event: "analysis_failed";
  error: Failure;
  usage?: Usage | null;
}

export interface VotesCounted {
  event: "votes_counted";
  layer: number;
  rule: "agree" | "majority";
  groups: VoteGroup[];
  abstained: number[];
  needed: number;
  seat?: number | null;
}

export interface VoteGroup {
  answer: string;
  seats: number[];
}

export interface AggregationStarted {
  event: "aggregation_started";
  model: string;
}

export interface AggregationReplaced {
  event: "aggregation_replaced";
  model: string;
  error: Failure;
  usage?: Usage | null;
}

export interface AggregationStep {
  event: "aggregation_step";
  proposals: number[];
  tokens: number;
  answer: Answer;
}

export interface AggregationDelta {
  event: "aggregation_delta";
  delta: TextDelta | ReasoningDelta | ToolCallDelta;
}

export interface RunFinished {
  event: "run_finished";
  answer: Answer;
  usage: Usage;
  losses: Loss[];
  model: string;
  planned: number;
  answered: number;
  last_resort: boolean;
  seat: number | null;
  layer: number | null;
  spared: number;
}

export interface RunFailed {
  event: "run_failed";
  error: Failure;
  usage: Usage;
  losses: Loss[];
  planned: number;
  answered: number;
  text: string;
  spared: number;
}

export type AnyEvent =
  | RunStarted
  | LayerStarted
  | ProposalStarted
  | ProposalDelta
  | ProposalReplaced
  | PromptFitted
  | ProposalFinished
  | ProposalFailed
  | ProposalSpared
  | CallFinished
  | ToolUsed
  | LayerFinished
  | VotesCounted
  | AnalysisStarted
  | AnalysisReplaced
  | AnalysisFinished
  | AnalysisFailed
  | AggregationStarted
  | AggregationReplaced
  | AggregationStep
  | AggregationDelta
  | RunFinished
  | RunFailed;

export type Delta = ProposalDelta["delta"];
export type ProposalEvent = ProposalStarted | ProposalReplaced | ProposalFinished | ProposalFailed | ProposalSpared;

// A run as the page keeps it.

/** The time of one call in its seat. */
export interface Bar {
  start: number;
  /** When the model began to write; `null` if it has written nothing. */
  first: number | null;
  end: number;
  /** How the call ended; `null` while the seat's state says so. */
  how: "" | "lost" | "stopped" | null;
}

/** The times of one seat: `times.js`. */
export interface SeatTimes {
  start: number;
  /** When the last call that has not ended began. */
  since: number;
  /** When the model that is asked now began to write. */
  first: number | null;
  end: number | null;
  /** What a seat that failed has used; only a run stored by an earlier version needs this. */
  used: Usage | null;
  /** The calls that have ended. */
  bars: Bar[];
}

export interface LayerTimes {
  start: number;
  end: number | null;
  seats: (SeatTimes | null)[];
  quorum: number | null;
  deadline: number | null;
  answered: number;
  /** When the quorum had answered. */
  reached: number | null;
}

export interface Times {
  /** Whether anybody has told the times of this run. */
  known: boolean;
  now: number;
  end: number | null;
  layers: LayerTimes[];
  analyst: SeatTimes | null;
  aggregator: SeatTimes | null;
}

export type SeatState = "waiting" | "asked" | "writing" | "done" | "lost" | "spared" | "stopped" | "not asked";

/** What several calls have used together. Dollars are unknown if those of any call are. */
export interface Used {
  output_tokens: number;
  dollars: string | number | null;
  estimated: boolean;
}

/** A source with the names of the seats that read it: `read.js`. */
export interface ReadSource {
  address: string;
  seats: string[];
}

/** What the page shows of one seat: `seats.js`. */
export interface ShownSeat {
  /** "2.1" for the first seat of the second layer, "analyst" or "aggregator". */
  address: string;
  model: string;
  name: string;
  short: string;
  asked: boolean;
  text: string;
  answer: Answer | null;
  /** Whether a seat has ended well that has no answer: the analyst. */
  ended?: boolean;
  error: { cause: string; message: string } | null;
  spared: boolean;
  replaced: [string, Failure][];
  times: SeatTimes | null;
  calls: CallFinished[];
  uses: ToolUsed[];
  /** "saw 2 of 6" if the seat reads a part of the proposals, else "". */
  reads: string;
  state: SeatState;
  facts: string[];
}

/** One seat of a layer, as far as it has come: `fold.js`. */
export interface Seat {
  model: string;
  /** The models that were asked before this one, and why each failed. */
  replaced: [string, Failure][];
  started: boolean;
  text: string;
  answer: Answer | null;
  error: Failure | null;
  /** Layer and seat of everything that the seat reads; `null` if it reads all that is there. */
  saw: [number, number][] | null;
  /** Whether the seat was not needed. */
  spared: boolean;
}

/** A run folded out of its events, with the fields of `partsong/transcript.py`: `fold.js`. */
export interface Transcript {
  recipe: Recipe | null;
  conversation: Conversation | null;
  layers: Seat[][];
  aggregator: string;
  replaced: [string, Failure][];
  fitted: PromptFitted[];
  /** The calls that have ended; none in a run stored by an earlier version. */
  calls: CallFinished[];
  /** The tool calls that have ended, of all seats. */
  uses: ToolUsed[];
  votes: VotesCounted[];
  text: string;
  answer: Answer | null;
  error: Failure | null;
  usage: Usage | null;
  losses: Loss[];
  planned: number;
  answered: number;
  last_resort: boolean;
  seat: number | null;
  /** The analyst, as far as it has come; `null` if it has not been asked. Its text stays empty. */
  analyst: Seat | null;
  analysis: Analysis | null;
  layer: number | null;
  spared: number;
}

/** A PDF or a file of text, with its content as a `data:` address. */
export interface AttachedFile {
  name: string;
  url: string;
}

/** A picture's address is a `data:` address or a URL. */
export interface Question {
  text: string;
  images: string[];
  files: AttachedFile[];
}

export interface PlainTurn {
  question: Question;
  answer: string;
}

/** A message in the shape of Chat Completions. */
export interface ChatMessage {
  role: string;
  content: string | object[];
}

/** What a new run does otherwise than an earlier one. Seats are pairs of a layer and a seat, counted from 0. */
export interface AgainChanges {
  aggregator?: string;
  method?: string;
  without?: [number, number][];
  retry?: [number, number][];
  best?: boolean;
}

// What the server's routes below `/api` return.

/** What a seat was sent: `/api/runs/RUN/sent`. */
export interface Sent {
  /** The step of an aggregator that read the proposals in several steps; 0 for the last one. */
  step: number;
  messages: { role: string; text: string; tokens: number }[];
  sampling: Record<string, string | number | boolean | string[]>;
  tools: string[];
  schema: boolean;
  calls: {
    model: string;
    input_tokens: number | null;
    cached_input_tokens: number | null;
    output_tokens: number | null;
    error: string | null;
    stored: boolean;
  }[];
  notes: string[];
}

export interface AboutRecipe {
  name: string;
  about: string;
  calls: number;
  typical_dollars: string | number | null;
  /** Why the recipe cannot be used here; `null` where it can. */
  unusable: string | null;
  /** The local models whose weights must be fetched first. */
  fetches?: { model: string; bytes: number | null; licence: string; about: string }[];
  layers?: string[][];
  aggregator?: string | null;
}

/** A provider that needs a key, and where its key is. */
export interface KeyedProvider {
  name: string;
  variable: string;
  key: "environment" | "session" | "kept" | null;
  /** Where a key is had; "" if nobody knows. */
  page: string;
  address: string;
}

export interface SetUp {
  /** Whether this page may set keys. */
  owner: boolean;
  providers: KeyedProvider[];
  /** What must be installed before local models can be used; "" for nothing. */
  local: string;
  /** The recipe whose weights are being fetched. */
  fetching: string | null;
  problem: string;
}

export interface About {
  recipes: AboutRecipe[];
  models: string[];
}

/** One run in the list of `/api/runs`. */
export interface RunLine {
  id: string;
  /** The run's start, in ISO 8601. */
  at: string;
  recipe: string;
  model: string;
  question: string;
  seconds: number;
  dollars: string | number | null;
  tokens: number;
  calls: number;
  state: "finished" | "failed" | "open";
  lost: number;
  /** The id of the earlier run whose proposals were found again. */
  again: string | null;
  /** "batch" or "bench" for a run that nobody has asked himself. */
  source: string | null;
}

/** One conversation in the list of `/api/conversations`. */
export interface ConversationEntry {
  id: string;
  title: string;
  /** Whether somebody has named it; else the title is the first question. */
  named: boolean;
  pinned: boolean;
  archived: boolean;
  /** The id of the newest run. */
  last: string;
  /** When this run began, in ISO 8601. */
  at: string;
}

/** `/api/runs/RUN`: an event with the seconds since the run's start. */
export interface StoredRun extends RunLine {
  events: { seconds: number; event: AnyEvent }[];
}

export interface DayTotal {
  day: string;
  runs: number;
  dollars: string | number | null;
  unpriced: number;
}

export interface ModelTotal {
  model: string;
  calls: number;
  tokens: number;
  dollars: string | number | null;
  unpriced: number;
}

/** How the votes on two recipes stand. A tie counts as half a vote for each. */
export interface Standing {
  a: number;
  b: number;
  ties: number;
  share: number | null;
  interval: [number, number] | null;
}

export interface Pair extends Standing {
  recipes: [string, string];
}

export type Toml = string | number | boolean | null | undefined | Toml[] | { [key: string]: Toml };
export type Table = Record<string, Toml>;

/** A recipe as the editor draws it. What the form has no field for stands in the settings. */
export interface Drawn {
  layers: Table[][];
  aggregator: Table;
  layer_settings: Table[];
  settings: Table;
}

export interface NamedRecipe {
  name: string;
  about?: string;
  drawn: Drawn;
}

export interface EditedRecipe {
  name: string;
  about?: string;
  drawn: Drawn | null;
  toml?: string;
  calls?: number;
  typical_dollars?: string | number | null;
  worst_dollars?: string | number | null;
  unusable?: string | null;
  saved?: boolean;
}

export interface Fault {
  field: string;
  line: number | null;
  message: string;
}

/** `/api/recipes/check`. */
export type Checked = ({ ok: true } & NamedRecipe & EditedRecipe) | { ok: false; errors: Fault[] };

export interface Listed {
  name: string;
  task: string | null;
  contestants: string[];
  samples: number;
  /** Unix time. */
  changed: number;
  state: "finished" | "running" | "stopped";
}

export interface Contestant {
  name: string;
  answers: number;
  failed: number;
  n: number;
  value: number | null;
  interval: [number, number] | null;
  dollars: string | number | null;
  tokens: number;
  seconds: number | null;
}

/** How two contestants differ, with a 95 % interval. */
export interface Difference {
  one: string;
  other: string;
  interval: { mean: number | null; low: number | null; high: number | null; n: number };
  /** About how many prompts would show such a difference. */
  enough: number | null;
}

/** A table or figure of the paper, with the values found here. */
export interface Exhibit {
  exhibit: string;
  rows: {
    row: string;
    paper: number | null;
    here?: { value?: number; low?: number; high?: number } | null;
    calls?: number;
  }[];
  notes: string[];
}

/** A prompt of a study; `by` is how much better a contestant was than the other side. */
export interface PromptLine {
  sample: string;
  question: string;
  by: number | null;
  state: string;
}

export interface PromptDetails {
  question: string;
  reference: string;
  answers: {
    contestant: string;
    attempt: number;
    text: string;
    failed: string;
    value: number | null;
    judged: string[];
    seconds: number | null;
    dollars: string | null;
  }[];
  verdicts: { one: string; other: string; value: number | null; judged: string[] }[];
}

export interface Study extends Omit<Listed, "contestants"> {
  manifest: {
    contestants?: Record<string, unknown>;
    task?: string;
    judge?: string;
    seed?: number;
    attempts?: number;
    versions?: { partsong?: string }[];
  };
  contestants: Contestant[];
  comparison: { differences?: Difference[] } | null;
  paper: Exhibit | null;
}

// Elements: `dom.js`.

export type Child = Node | string | null | undefined | false;
/** Attributes by name; `value` is set as a property, and a function hears the event that its name has after "on". */
export type Properties = Record<string, string | number | boolean | null | undefined | ((event: any) => unknown)>;

/** A local model that the server is fetching or loading; `done` and `total` are bytes. */
export interface Prepared {
  model: string;
  state: "fetching" | "waiting" | "checking" | "loading";
  done: number;
  total: number | null;
}
