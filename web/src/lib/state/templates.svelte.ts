// The prompt templates that this user sees.
import { get } from "../api/client.ts";
import type { Template } from "../api/types.ts";
import { toasts } from "./toasts.svelte.ts";

class Library {
  list = $state.raw<Template[]>([]);
  loaded = $state(false);
  private loading = false;

  async load(again = false): Promise<void> {
    if (this.loading || (this.loaded && !again)) return;
    this.loading = true;
    try {
      this.list = (await get<{ templates: Template[] }>("/templates")).templates;
      this.loaded = true;
    } catch (error) {
      toasts.error(error);
    } finally {
      this.loading = false;
    }
  }
}

export const library = new Library();
