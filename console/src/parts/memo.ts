import { Component, createElement, type ComponentType } from 'preact';

/** A component that is drawn again only when one of its properties is another value. */
export function memo<Props extends object>(Inner: ComponentType<Props>): ComponentType<Props> {
  return class Memo extends Component<Props> {
    override shouldComponentUpdate(next: Props): boolean {
      return Object.entries(next).some(
        ([name, value]) => value !== this.props[name as keyof Props],
      );
    }
    override render() {
      return createElement(Inner, this.props);
    }
  };
}
