export default function setup(p: any) { console.log('GLOBAL SETUP', p.name ?? p.config?.name); p.provide('x', 1); return () => console.log('DOWN'); }
