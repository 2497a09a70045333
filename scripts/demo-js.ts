// What scripts/demo-js has transpiled: the types of a store of notes, and who is told of its changes.

export type Id = string & { readonly brand: unique symbol };

export interface Note {
  readonly id: Id;
  title: string;
  body: string;
  tags: readonly string[];
  created: Date;
  changed?: Date;
}

export type Draft = Omit<Note, "id" | "created" | "changed"> & Partial<Pick<Note, "created">>;

export enum Order {
  Newest = "newest",
  Oldest = "oldest",
  Title = "title",
}

export interface Query {
  text?: string;
  tags?: readonly string[];
  order?: Order;
  limit?: number;
}

type Listener<T> = (value: T, at: Date) => void;

export class Topic<T> {
  #listeners = new Set<Listener<T>>();

  subscribe(listener: Listener<T>): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  publish(value: T): void {
    const at = new Date();
    for (const listener of this.#listeners) listener(value, at);
  }
}
