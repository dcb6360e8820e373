// Who is signed in, their settings, and the models that answer.
import { get, patch, post, setCsrf, whenSignedOut, ApiError } from "../api/client.ts";
import { events } from "../api/events.ts";
import type { Me, Model, Models } from "../api/types.ts";
import { locale, type Language } from "../i18n/index.svelte.ts";

export interface Settings {
  theme: "system" | "light" | "dark";
  language: Language | null;
  sendKey: "enter" | "mod-enter";
  showStats: boolean;
  model: string | null;
}
const DEFAULTS: Settings = { theme: "system", language: null, sendKey: "enter", showStats: true, model: null };

class Session {
  me = $state<Me | null>(null);
  failed = $state<unknown>(null);
  models = $state<Models | null>(null);
  settings = $state<Settings>({ ...DEFAULTS });
  connected = $state(true);
  private polling: ReturnType<typeof setTimeout> | undefined;

  get signedIn(): boolean {
    return this.me?.user != null;
  }
  get admitted(): boolean {
    return this.signedIn && this.me!.user!.role !== "pending";
  }
  get admin(): boolean {
    return this.me?.user?.role === "admin";
  }

  constructor() {
    whenSignedOut(() => this.signedOut());
    events.on("signed_out", () => this.signedOut());
    events.on("changed", ({ what }) => {
      if (what === "me") void this.load().catch(() => {});
      if (what === "models") void this.loadModels();
    });
    events.onState = (connected) => {
      this.connected = connected;
      // A stream that is refused may mean a session that has ended.
      if (!connected) void this.load().catch(() => {});
    };
  }

  async load(): Promise<void> {
    try {
      this.accept(await get<Me>("/me"));
      this.failed = null;
    } catch (error) {
      if (!this.me) this.failed = error;
      throw error;
    }
  }

  accept(me: Me): void {
    this.me = me;
    setCsrf(me.csrf);
    if (!me.user) return;
    this.settings = { ...DEFAULTS, ...(me.settings as Partial<Settings>) };
    this.apply();
    if (me.user.role !== "pending") {
      events.open();
      if (!this.models) void this.loadModels();
    }
  }

  apply(): void {
    const theme = this.settings.theme;
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    if (this.settings.language) locale.set(this.settings.language);
  }

  async change(change: Partial<Settings>): Promise<void> {
    this.settings = { ...this.settings, ...change };
    this.apply();
    if (this.signedIn) await patch<Me>("/me", { settings: { ...this.settings } });
  }

  async loadModels(): Promise<void> {
    clearTimeout(this.polling);
    try {
      this.models = await get<Models>("/models");
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return;
    }
    // Percent while a model loads; the rest comes as an event.
    if (!this.models || this.models.models.some((model) => model.state === "loading")) {
      this.polling = setTimeout(() => void this.loadModels(), 700);
    }
  }

  model(id: string | null): Model | null {
    const list = this.models?.models ?? [];
    return list.find((model) => model.id === (id ?? this.settings.model)) ?? list[0] ?? null;
  }

  async logout(): Promise<void> {
    await post<void>("/logout");
    this.signedOut();
    await this.load();
  }

  private signedOut(): void {
    events.close();
    if (this.me) this.me = { ...this.me, user: null, csrf: null };
    void this.load().catch(() => {});
  }
}

export const session = new Session();
