import type { Settings, ValuesOf } from '../../../config/setting.ts';
import type { Logger } from '../../../lib/log.ts';
import type { Sink } from '../sink.ts';

/** What a sink is made of. */
export interface SinkOptions<S extends Settings = Settings> {
  /** What was read of its settings. */
  readonly values: ValuesOf<S>;
  /** The data folder, as an absolute path. */
  readonly dataDir: string;
}

/** What of the configuration says which sinks there are, and how each is made. */
export interface SinkConfig {
  readonly audit: {
    readonly sinks: readonly string[];
    readonly values: Readonly<Record<string, unknown>>;
  };
  readonly dataDir: string;
}

/** A kind of sink, by which everything else knows it. To add one: CONTRIBUTING.md. */
export interface SinkKind<S extends Settings = Settings> {
  /** Its name in AUDIT_SINK. */
  readonly name: string;
  /** What people call it, as in "CloudWatch Logs can't be read". */
  readonly title: string;
  /** Its environment variables; docs/configuration.md has their rows. */
  readonly settings: S;
  /**
   * Whether it is a file of the data folder, which exists only once the embedded server has been started. The others are made before
   * that, so that a mistake shows first.
   */
  readonly isInDataDir?: true;
  /** What its settings must agree on where it is chosen: a sentence for each mistake. */
  problems?(values: ValuesOf<S>, isSet: (name: string) => boolean): Iterable<string>;
  /** The cursor's name in audit.cursors, of which no secret is a part: it is in logs and metrics. */
  destination(options: SinkOptions<S>): string;
  /** @throws ConfigError when it can never work as configured, unlike in an outage, which passes */
  make(options: SinkOptions<S>, log: Logger): Promise<Sink>;
  /**
   * The text of each seal that it holds, for `audit verify --anchors NAME`; absent where it can't be read.
   *
   * @throws the destination's error, and the signal's reason
   */
  readAnchors?(options: SinkOptions<S>, signal: AbortSignal): AsyncIterable<string>;
}

/** A kind of sink whose functions know the types of its own settings. */
export function defineSink<const S extends Settings>(kind: SinkKind<S>): SinkKind<S> {
  return kind;
}
