/** Asks again and again, at the pace of what is shown; never while the browser tab is hidden. */

const FIRST_RETRY_S = 1;
const LAST_RETRY_S = 30;
/** A server that hangs does not end a request; without an end, what is shown gets old unnoticed. */
const ANSWER_MS = 60_000;

export class Poller {
  /**
   * @param {(signal: AbortSignal) => Promise<number>} ask returns the seconds until the next time
   * @param {(error: unknown, ageS: number|null) => void} onError with the age of the last answer
   * @param {number} [answerMs] milliseconds until a question without an answer is an error
   */
  constructor(ask, onError, answerMs = ANSWER_MS) {
    this.ask = ask;
    this.onError = onError;
    this.answerMs = answerMs;
    this.failures = 0;
    /** @type {number|null} */
    this.answeredMs = null;
    this.isRunning = false;
    this.abort = new AbortController();
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
    this.onVisibility = () => this.now();
  }

  start() {
    this.isRunning = true;
    document.addEventListener("visibilitychange", this.onVisibility);
    this.now();
  }

  stop() {
    this.isRunning = false;
    document.removeEventListener("visibilitychange", this.onVisibility);
    clearTimeout(this.timer);
    this.abort.abort();
  }

  /** Ask now, and begin to wait again; an answer that is on its way is dropped. */
  now() {
    clearTimeout(this.timer);
    this.abort.abort();
    if (!this.isRunning || document.visibilityState === "hidden") return;
    this.abort = new AbortController();
    void this.run(this.abort.signal);
  }

  /** @param {AbortSignal} signal */
  async run(signal) {
    let waitS;
    try {
      waitS = await this.ask(AbortSignal.any([signal, AbortSignal.timeout(this.answerMs)]));
      this.failures = 0;
      this.answeredMs = Date.now();
    } catch (error) {
      if (signal.aborted) return;
      waitS = Math.min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** this.failures);
      this.failures += 1;
      this.onError(error, this.answeredMs === null ? null : (Date.now() - this.answeredMs) / 1000);
    }
    if (!signal.aborted) this.timer = setTimeout(() => this.now(), waitS * 1000);
  }
}
