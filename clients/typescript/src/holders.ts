/**
 * Who still uses an older version of a secret: the broker is told that a version is applied when nobody does.
 *
 * Pure bookkeeping.
 */

/** One place that keeps something made from a version, such as a pool of connections. */
export class Holder {
  /** The generation that everything here is made from. */
  generation: number;
  readonly #holders: Holders;

  /** Use `Live.holder`. */
  constructor(holders: Holders, generation: number) {
    this.#holders = holders;
    this.generation = generation;
  }

  /** Says that nothing made from a version before this generation is in use here any more. */
  applied(generation: number): void {
    this.generation = generation;
    this.#holders.tell();
  }

  /** Says that nothing made from any version is in use here any more. */
  leave(): void {
    this.#holders.remove(this);
  }
}

/** All places of one handle. */
export class Holders {
  readonly #all = new Set<Holder>();
  readonly #applied: () => void;
  #current: number;
  #told: number;

  /** Calls `applied` whenever all holders came to be at the current generation. */
  constructor(generation: number, applied: () => void) {
    this.#current = generation;
    this.#told = generation;
    this.#applied = applied;
  }

  /** Adds a place, which has nothing yet. */
  join(): Holder {
    const holder = new Holder(this, this.#current);
    this.#all.add(holder);
    return holder;
  }

  /** Notes that another version is current. */
  rotated(generation: number): void {
    this.#current = generation;
    this.tell();
  }

  /** Forgets a place. */
  remove(holder: Holder): void {
    if (this.#all.delete(holder)) {
      this.tell();
    }
  }

  /** Tells, once, where all are. */
  tell(): void {
    const behind = [...this.#all].some((holder) => holder.generation !== this.#current);
    if (!behind && this.#told !== this.#current) {
      this.#told = this.#current;
      this.#applied();
    }
  }
}
