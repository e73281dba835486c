import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files that take long, and wait more than they compute, first: at the end of a run the short ones fill every processor. */
const PROJECTS = ['process', 'worker', 'versions', 'console', 'api', 'db', 'unit'];

/** Vitest's own order takes the projects by the alphabet. */
export class ProjectSequencer extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ project }: TestSpecification) =>
      project.config.sequence.groupOrder * PROJECTS.length + PROJECTS.indexOf(project.name);
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b));
  }
}
