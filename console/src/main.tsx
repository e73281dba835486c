import { render } from 'preact';
import { App } from './app.tsx';
import './styles/tokens.css';
import './styles/base.css';
import './styles/controls.css';
import './styles/frame.css';
import './styles/timeline.css';
import './styles/flag.css';
import './styles/flags.css';
import './styles/trail.css';
import './styles/tonight.css';
import './styles/state.css';
import './styles/plans.css';

render(<App />, document.body);
