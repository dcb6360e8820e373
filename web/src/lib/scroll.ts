// Keeps the end of a growing answer in view until the reader scrolls away, and again once they come back to the end. A scroll event
// is the page's own if it lands where the page put it; everything else is the reader. No timers, no guesses from distance alone.

const NEAR = 60;      // px from the end: pinned again
const FAR = 200;      // px from the end: the way down is offered

export class ScrollKeeper {
  pinned = true;
  private expected = -1;
  private lastTop = 0;
  private lastHeight = 0;
  private readonly observer: ResizeObserver;

  constructor(private readonly box: HTMLElement, content: HTMLElement, private readonly onFar: (far: boolean) => void) {
    this.observer = new ResizeObserver(() => {
      if (this.pinned) this.toEnd();
      else this.report();
    });
    this.observer.observe(content);
    this.observer.observe(box);
    box.addEventListener("scroll", this.onScroll, { passive: true });
  }

  destroy(): void {
    this.observer.disconnect();
    this.box.removeEventListener("scroll", this.onScroll);
  }

  /// To the end at once; pins.
  toEnd(): void {
    this.pinned = true;
    this.box.style.overflowAnchor = "none";
    this.expected = this.box.scrollHeight - this.box.clientHeight;
    this.box.scrollTop = this.expected;
    this.onFar(false);
  }

  unpin(): void {
    this.pinned = false;
    this.box.style.overflowAnchor = "auto";
  }

  private distance(): number {
    return this.box.scrollHeight - this.box.clientHeight - this.box.scrollTop;
  }

  private report(): void {
    this.onFar(this.distance() > FAR);
  }

  private readonly onScroll = (): void => {
    const top = this.box.scrollTop;
    const height = this.box.scrollHeight;
    const own = Math.abs(top - this.expected) < 2;
    // Content that became shorter moves the position without anybody's doing.
    const shrunk = height < this.lastHeight;
    if (!own && !shrunk) {
      if (top < this.lastTop && this.distance() > 2) this.unpin();
      else if (this.distance() <= NEAR) this.toEnd();
    }
    this.lastTop = top;
    this.lastHeight = height;
    if (!this.pinned) this.report();
  };
}
