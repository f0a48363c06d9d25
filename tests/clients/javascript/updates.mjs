// Updates of resources, in the order they came, for whoever waits for the next one.

export class Updates {
  #come = [];
  #waiting = [];

  add(uri) {
    const waiting = this.#waiting.shift();
    waiting ? waiting(uri) : this.#come.push(uri);
  }

  next() {
    const come = this.#come.shift();
    return come ? Promise.resolve(come) : new Promise(resolve => this.#waiting.push(resolve));
  }
}
