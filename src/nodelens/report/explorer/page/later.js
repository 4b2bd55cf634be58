// Work that may wait: done in slices, so that the slider never waits for it; new work replaces the old.

const SLICE = 12; // milliseconds; what remains of a frame

export class Later {
  #turn = 0;

  /**
   * @param {Iterable<unknown>} work each step is one small piece
   */
  run(work) {
    const turn = ++this.#turn, steps = work[Symbol.iterator]();
    const slice = () => {
      const begin = performance.now();
      while (turn === this.#turn && performance.now() - begin < SLICE) if (steps.next().done) return;
      if (turn === this.#turn) setTimeout(slice);
    };
    setTimeout(slice);
  }
}
