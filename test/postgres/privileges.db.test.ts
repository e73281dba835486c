import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAs, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { sqlStateOf } from '../support/roles.ts';

/** `public` is any other login of the server, without a role of Halyard's. */
const ROLES = ['owner', 'authenticator', 'admin', 'viewer', 'auditor', 'worker', 'public'] as const;
type Role = (typeof ROLES)[number];

const database = useDatabase();

/**
 * Role × table × operation, in full: r select, a insert, w update, d delete, D truncate, x references, t trigger; with
 * columns in parentheses for those only. What isn't here is refused. The owner's rights on the trail end at its triggers
 * (audit/record/failures.db.test.ts).
 */
const TABLES = `
table                                owner    authenticator  admin                                                                                              viewer  auditor  worker  public
app_public.environments              rawdDxt  -              r                                                                                                  r(name,created_at,created_by,revision,stopped_at)       r        -       -
app_public.feature_flags             rawdDxt  -              ra(flag_key,environment,enabled,rollout_percentage,description)w(enabled,rollout_percentage,description)  r       r        -       -
app_public.feature_flag_schedules    rawdDxt  -              ra(flag_id,scheduled_at,updates,max_attempts,reason)                                               r       r        -       -
app_public.plans                     rawdDxt  -              r                                                                                                  -       r        -       -
app_private.apply_gates              rawdDxt  -              -                                                                                                  -       -        -       -
app_private.settings                 rawdDxt  -              -                                                                                                  -       -        -       -
app_private.denials                  rawdDxt  -              -                                                                                                  -       -        -       -
app_private.console_sessions         rawdDxt  -              -                                                                                                  -       -        -       -
app_private.locks                    rawdDxt  -              -                                                                                                  -       -        -       -
app_private.leases                   rawdDxt  -              -                                                                                                  -       -        -       -
audit.events                         rawdDxt  -              r                                                                                                  -       r        -       -
audit.event_types                    rawdDxt  -              r                                                                                                  -       r        -       -
audit.events_YYYY_MM                 rawdDxt  -              -                                                                                                  -       -        -       -
audit.ledger                         rawdDxt  -              r(seq,event_id,occurred_at,sequenced_at,event_type,flag_key,environment)                           -       r        -       -
audit.seals                          rawdDxt  -              -                                                                                                  -       r        -       -
audit.incarnations                   rawdDxt  -              -                                                                                                  -       r        -       -
audit.divergences                    rawdDxt  -              -                                                                                                  -       r        -       -
audit.dead_letters                   rawdDxt  -              -                                                                                                  -       r        -       -
audit.queue                          rawdDxt  -              -                                                                                                  -       -        -       -
audit.cursors                        rawdDxt  -              -                                                                                                  -       -        -       -
app_private.audited_rows             rawdDxt  -              -                                                                                                  -       -        -       -
audit.flag_events                    rawdDxt  -              -                                                                                                  -       r        -       -
audit.actor_events                   rawdDxt  -              -                                                                                                  -       r        -       -
audit.applied_schedules              rawdDxt  -              -                                                                                                  -       r        -       -
audit.lateness_days                  rawdDxt  -              -                                                                                                  -       r        -       -
audit.failed_schedules               rawdDxt  -              -                                                                                                  -       r        -       -
audit.cancellations_by_others        rawdDxt  -              -                                                                                                  -       r        -       -
audit.manual_changes                 rawdDxt  -              -                                                                                                  -       r        -       -
audit.stops                          rawdDxt  -              -                                                                                                  -       r        -       -
audit.plan_events                    rawdDxt  -              -                                                                                                  -       r        -       -
audit.reconciliations                rawdDxt  -              -                                                                                                  -       -        -       -
`;

/** Every function, and who may execute it besides its owner. */
const FUNCTIONS = `
app_public.cancel_flag_schedule(uuid,text)                       admin
app_public.reschedule_flag_change(uuid,timestamp with time zone,text) admin
app_public.retry_flag_schedule(uuid,text)                        admin
app_public.schedule_flag_change(text,text,timestamp with time zone,jsonb,text) admin
app_public.create_environment(text)                              admin
app_public.stop_environment(text,text)                           admin
app_public.resume_environment(text,text,text,uuid[])             admin
app_public.resume_schedule(uuid,text)                            admin
app_public.create_plan(text,jsonb,timestamp with time zone,text) admin
app_public.edit_plan(uuid,text,jsonb,timestamp with time zone,text) admin
app_public.cancel_plan(uuid,text)                                admin
app_public.retry_plan(uuid,text)                                 admin
app_public.change_flags(jsonb,text)                              admin
app_public.revert_schedule(uuid,timestamp with time zone,text,text) admin
app_public.revert_plan(uuid,timestamp with time zone,text,text)  admin
app_public.revert_span(text,timestamp with time zone,timestamp with time zone,text[],timestamp with time zone,text,text) admin
app_public.dry_run_plan(text,jsonb,timestamp with time zone,text) admin
app_public.dry_run_edit(uuid,text,jsonb,timestamp with time zone,text) admin
app_public.dry_run_revert(jsonb,timestamp with time zone,text)   admin
app_public.dry_run_resume(text,text,uuid[])                      admin
app_public.plan_conflicts(uuid)                                  admin auditor
app_public.schedule_conflicts(uuid)                              admin auditor
app_public.server_time()                                         admin viewer auditor
app_public.flag_state_at(text,timestamp with time zone)           admin viewer auditor
app_public.upcoming_changes(text,timestamp with time zone,timestamp with time zone,integer) admin viewer auditor
app_public.flag_changes(text,timestamp with time zone,timestamp with time zone,text,integer) admin viewer auditor
app_public.schedules_between(text,timestamp with time zone,timestamp with time zone,text,integer) admin viewer auditor
app_public.changes_per_day(text,timestamp with time zone,timestamp with time zone,text) admin viewer auditor
app_public.last_flag_change(uuid)                                 admin viewer auditor
app_public.change_flags(jsonb,text)                              admin
app_public.revert_schedule(uuid,timestamp with time zone,text,text) admin
app_public.revert_plan(uuid,timestamp with time zone,text,text)  admin
app_public.revert_span(text,timestamp with time zone,timestamp with time zone,text[],timestamp with time zone,text,text) admin
app_public.dry_run_plan(text,jsonb,timestamp with time zone,text) admin
app_public.dry_run_revert(jsonb,timestamp with time zone,text)   admin
app_public.dry_run_resume(text,text,uuid[])                      admin
app_public.plan_conflicts(uuid)                                  admin auditor
app_public.schedule_conflicts(uuid)                              admin auditor

audit.verify(bigint,bigint)                                      auditor
audit.verify_rows(text,text,integer)                             auditor
audit.verify_triggers()                                          auditor
audit.prove(uuid)                                                admin auditor
audit.retain(interval,integer,boolean)
audit.forget_destination(text)
audit.last_seq()                                                 admin auditor
audit.trail_status()                                             admin auditor
audit.record_export(text,jsonb,boolean)                          admin auditor
app_private.continues_export(uuid,jsonb)                         admin auditor

app_private.claim_email()                                        admin viewer auditor
app_private.claim_environments()                                 admin viewer auditor
app_private.claims_are_limited()                                 admin viewer auditor
app_private.claim_role()                                         admin viewer auditor
app_private.claim_user_id()                                      admin viewer auditor
app_private.recent_schedule_ids(integer)                          admin viewer auditor
app_private.recent_flag_ids(integer)                              admin viewer auditor
app_private.recent_plan_ids(integer)                              admin auditor
app_private.environments_of_events(uuid[])                        admin viewer auditor
app_private.flag_ids_of_events(uuid[])                            admin viewer auditor
app_private.require_environment(text,boolean)                    admin viewer auditor
app_private.request_id()                                         admin viewer auditor
app_private.attributed_setting(text,integer)                     admin viewer auditor
app_private.is_recording()                                       admin
app_private.expected_revision()                                  admin
app_private.actor_text(audit.events)                             admin
app_private.stale_text(audit.events,text,bigint)                 admin
app_private.stale_detail(audit.events,bigint)                    admin
app_private.flag_change_text(audit.events)                       admin
app_private.refuse_stale_flag(app_public.feature_flags)          admin
app_private.updates_problem(jsonb)                               admin
app_private.trim_reason(text)                                    admin
app_private.flag_state(app_public.feature_flags)                 admin
app_private.require_schedulable(timestamp with time zone)        admin
app_private.shipped_bytes(text,bigint)                           admin auditor
app_private.shipped_message(text,bigint)                         admin auditor
app_private.seal_of(bigint)                                      admin auditor
app_private.alteration_of(audit.events)                          admin auditor
app_private.audit_mode()                                         auditor
app_private.camel_case_keys(jsonb)                               auditor
app_private.schema_version()                                     authenticator worker
app_private.readiness()                                          authenticator
app_private.record_denial(text,text,text,text,integer)           authenticator
app_private.record_denial_counts()                               authenticator
app_private.put_console_session(bytea,bytea,timestamp with time zone) authenticator
app_private.console_session(bytea)                               authenticator
app_private.drop_console_session(bytea)                          authenticator
app_private.apply_due(integer,uuid[],interval)                    worker
app_private.apply_flag(uuid,integer,uuid[],interval)             worker
app_private.metrics(text[])                                      authenticator worker
app_private.waiting_work(text)                                    worker
app_private.next_due()                                           worker
app_private.overdue_flags(double precision,uuid[],uuid[])        worker
app_private.ensure_audit_partitions(integer)                     worker
app_private.retain_audit_events()                                worker
app_private.remove_old_schedules(text,integer)                   worker
app_private.remove_old_plans(text,integer)                       worker
app_private.seal_batch(integer,bigint)                    worker
app_private.undelivered_audit_events(text,integer)               worker
app_private.confirm_audit_events(text,bigint,bigint,bigint)      worker
app_private.record_undeliverable(text,bigint,bigint,uuid,integer) worker
app_private.take_lease(text,text,integer)                        worker
app_private.renew_lease(text,bigint,integer)                     worker
app_private.release_lease(text,bigint)                           worker
app_private.audit_cursor(text)                                   worker
app_private.delivery_state(text,jsonb)                           worker
app_private.destination_is_ahead()                               authenticator worker
app_private.reconcile_due(bigint)                                worker

app_private.require_reader()
app_private.require_instant(text,timestamp with time zone)
app_private.require_span(timestamp with time zone,timestamp with time zone,integer)
app_private.require_first(integer)
app_private.require_zone(text)
app_private.require_history(timestamp with time zone)
app_private.require_flag_key(text,text)
app_private.deciding_change(uuid,text,timestamp with time zone,timestamp with time zone,uuid,timestamp with time zone,timestamp with time zone,jsonb,uuid)
app_private.source_of(uuid,timestamp with time zone,uuid,integer,integer)
app_private.turn_of(app_public.feature_flag_schedules,timestamp with time zone)
app_private.guard_findings(uuid[],jsonb,uuid[])
app_private.is_uncertain(uuid[],uuid,text,timestamp with time zone,uuid,timestamp with time zone,uuid)
app_private.guarded_with(uuid[],timestamp with time zone)
app_private.guarded_points(timestamp with time zone,uuid[])
app_private.guard_outcomes(timestamp with time zone,uuid[])
app_private.guard_summary(timestamp with time zone,uuid[])
app_private.change_conflicts(uuid[])
app_private.lock_flags(uuid[],boolean)
app_private.flags_in_order(jsonb)
app_private.flag_diffs(uuid[],jsonb)
app_private.refuse_conflict(uuid)
app_private.flag_state_values(jsonb)
app_private.changes_of_rows(uuid[])
app_private.changes_of_schedule(app_public.feature_flag_schedules)
app_private.changes_of_span(text,timestamp with time zone,timestamp with time zone,text[])
app_private.revert_steps(jsonb,text)
app_private.insert_revert(text,jsonb,jsonb,timestamp with time zone,text,text,boolean)
app_private.revert_of_plan(uuid,timestamp with time zone,text,text,boolean)
app_private.revert_of_schedule(uuid,timestamp with time zone,text,text,boolean)
app_private.revert_of_span(text,timestamp with time zone,timestamp with time zone,text[],timestamp with time zone,text,text,boolean)
app_private.apply_unless_timed(app_public.plans,timestamp with time zone)
app_private.bring_forward(app_public.plans)
app_private.events_since(bigint)
app_private.gone_events(jsonb)
app_private.as_worker(jsonb)
app_private.dry_run_of_plan(app_public.plans,boolean,bigint)
app_private.dry_run_of_resume(app_public.environments,text,uuid[],bigint)
app_private.dry_run(text,jsonb)
app_private.end_stop(app_public.environments,text,text,uuid[])
app_private.environments_are_visible(character varying[])
app_private.flag_values(app_public.feature_flags)
app_private.projected_states(text,timestamp with time zone)
app_private.past_states(text,timestamp with time zone)
app_private.flag_change_of(audit.events)
app_private.actor_kind()
app_private.advance_audit_cursor(text,bigint,bigint)
app_private.reconcile_audit(text,jsonb)
app_private.dead_letter_count()
app_private.next_work(text,text)
app_private.take_lock(text)
app_private.try_lock(text)
app_private.lease_end(integer)
app_private.holds_lease(text,bigint)
app_private.as_system(app_private.audit_event)
app_private.environment_id(text)
app_private.environment_state(app_public.environments)
app_private.environment_event(timestamp with time zone,uuid,app_public.environments,app_public.environments,text)
app_private.original_environments(text[])
app_private.environment_recorded(audit.events)
app_private.environment_found(app_public.environments)
app_private.vanished_environments()
app_private.tg_environments__stamp()
app_private.tg_environments__audit()
app_private.setting_id(text)
app_private.actor_details()
app_private.change_reason()
app_private.client_request_id()
app_private.claimed()
app_private.record_event(text,text,jsonb,text,text,boolean,uuid)
app_private.applying()
app_private.is_applying_text(text)
app_private.apply_schedules(uuid[])
app_private.apply_or_bisect(uuid[],timestamp with time zone)
app_private.apply_turns(uuid[],timestamp with time zone)
app_private.apply_outcomes(uuid[],boolean,interval)
app_private.apply_in_turns(uuid[],boolean,interval)
app_private.apply_in_turns(uuid[])
app_private.unmet_expectations(app_public.feature_flag_schedules,app_public.feature_flags)
app_private.found_before(uuid[])
app_private.suspend_conflicts(uuid[])
app_private.stopped_schedules(uuid[])
app_private.suspend_for_stop(jsonb)
app_private.try_lock_plan(uuid)
app_private.complete_points(uuid[],uuid[])
app_private.require_whole_point(uuid,uuid[])
app_private.apply_or_suspend(uuid[])
app_private.try_point(uuid[],timestamp with time zone)
app_private.lock_point(uuid)
app_private.apply_point(uuid)
app_private.refuse_part_of_plan(app_public.feature_flag_schedules)
app_private.require_reason(text)
app_private.lock_point_of(uuid)
app_private.require_no_stop(app_public.feature_flag_schedules)
app_private.stamp_stop(app_public.environments,app_public.environments)
app_private.stop_text(app_public.environments)
app_private.lock_environment(text)
app_private.stop_environment(text,text)
app_private.resume_environment(text,text,text,uuid[])
app_private.missed_schedules(text)
app_private.lock_schedules(uuid[])
app_private.settle_missed(app_public.environments,text,text,uuid[])
app_private.schedule_point(app_public.feature_flag_schedules)
app_private.flag_values(app_public.feature_flags)
app_private.environment_change(app_public.environments,app_public.environments)
app_private.stop_details(app_public.environments,app_public.environments)
app_private.is_held(app_public.feature_flag_schedules,timestamp with time zone,timestamp with time zone)
app_private.is_due(app_public.feature_flag_schedules,timestamp with time zone,timestamp with time zone,timestamp with time zone)
app_private.is_transient(text)
app_private.postponement(app_public.feature_flag_schedules)
app_private.applying_schedules()
app_private.schedule_change(app_public.feature_flag_schedules,app_public.feature_flag_schedules)
app_private.schedule_change_own_details(timestamp with time zone,app_public.feature_flag_schedules,app_public.feature_flag_schedules,app_public.feature_flags)
app_private.schedule_change_details(timestamp with time zone,app_public.feature_flag_schedules,app_public.feature_flag_schedules,app_public.feature_flags)
app_private.audit_is_strict()
app_private.setting(text)
app_private.setting_definitions()
app_private.setting_problem(text,text)
app_private.set_setting(text,text)
app_private.tg_settings__stamp()
app_private.tg_settings__audit()
app_private.expected_triggers()
app_private.trigger_problems()
app_private.guard_metrics()
app_private.flag_recorded(audit.events)
app_private.flag_found(app_public.feature_flags)
app_private.schedule_recorded(audit.events)
app_private.schedule_found(app_public.feature_flag_schedules)
app_private.row_recorded(text,audit.events)
app_private.event_ids(uuid,timestamp with time zone,bigint)
app_private.row_differences(jsonb,jsonb)
app_private.row_history(text,uuid,timestamp with time zone,text[])
app_private.row_verdict(text,uuid,timestamp with time zone,bigint,boolean,text[],jsonb)
app_private.unexplained_rows(text,uuid[],timestamp with time zone[],bigint[],text[],jsonb[])
app_private.unexplained_page(text,uuid,integer,uuid[])
app_private.highest_revision(text,uuid,timestamp with time zone,bigint,text[])
app_private.vanished_rows(text,integer)
app_private.vanished_row_problems(text,integer)
app_private.row_problems(text,text,integer)
app_private.record_row(text,uuid,bigint,jsonb)
app_private.record_rows(text,text[])
app_private.check_rows(text,text,integer,boolean)
app_private.tg_cursors__audit()
app_private.write_dead_letter(jsonb,text,text)
app_private.environment_is_visible(text)
app_private.flag_event(timestamp with time zone,uuid,app_public.feature_flags,app_public.feature_flags,uuid,text,text,jsonb)
app_private.iso(timestamp with time zone)                        admin
app_private.lock_schedule(uuid)
app_private.schedule_change_text(audit.events)
app_private.refuse_stale_schedule(app_public.feature_flag_schedules)
app_private.has_no_room_for_pending(uuid)
app_private.refuse_pending()
app_private.make_event(uuid,timestamp with time zone,text,uuid,text,text,uuid,bigint,jsonb)
app_private.uuid_of(bytea)
app_private.incarnation()
app_private.renewed_event_id(uuid,uuid,timestamp with time zone,bigint,uuid)
app_private.renewed_event(app_private.audit_event,uuid)
app_private.renew_queued_events(uuid)
app_private.renew_dead_letters(uuid)
app_private.overdue_schedules()
app_private.restored_event(audit.incarnations,jsonb)
app_private.lock_trail()
app_private.accept_restore(text,text,boolean,boolean)
app_private.open_divergences()
app_private.held_schedules()
app_private.delivery_obstacle(text)
app_private.unknown_records(jsonb)
app_private.given_up_numbers(text)
app_private.record_divergences(text,jsonb)
app_private.event_id(uuid,uuid,timestamp with time zone,bigint)
app_private.changed_event_id(uuid,uuid,timestamp with time zone,bigint,bigint)
app_private.patch_flags(uuid[],jsonb[])
app_private.require_auditor()
app_private.require_prover()
app_private.recording_problems()
app_private.delivering_problems()
app_private.guarding_problems()
app_private.make_audit_partition(timestamp with time zone)
app_private.leaf_hash(text)
app_private.event_leaf(text,bigint)
app_private.missing_message(uuid,bigint,boolean)
app_private.merkle_root(bytea[])
app_private.merkle_path(bytea[],integer)
app_private.seal_head(bytea,uuid,uuid,bigint,bigint,bigint,bytea)
app_private.assign_seq(integer,bigint,bigint)
app_private.next_setting_revision(text)
app_private.substitute_id(uuid,timestamp with time zone)
app_private.substitute_event(app_private.audit_event,uuid)
app_private.unwritten_event(audit.events)
app_private.unless_taken(app_private.audit_event)
app_private.is_substituted(uuid,timestamp with time zone)
app_private.settle_repeated_event(uuid,timestamp with time zone)
app_private.settle_repeated_events()
app_private.write_seal(audit.seals,bigint,bytea[])
app_private.seal_message(audit.seals)
app_private.parse_purge_event(text)
app_private.purges()
app_private.purge_horizon()
app_private.payload_event_id(text)
app_private.relocated_events(bigint[])
app_private.unsealed_events()
app_private.differing_columns(audit.events)
app_private.seal_problems(audit.seals,timestamp with time zone,bigint)
app_private.chain_problem(audit.seals,audit.seals)
app_private.trail_problems(bigint,bigint)
app_private.unsealed_problems()
app_private.audit_months()
app_private.purge_obstacle(timestamp with time zone,timestamp with time zone)
app_private.month_problem(timestamp with time zone,timestamp with time zone)
app_private.drop_audit_months(regclass[],timestamp with time zone[],bigint[])
app_private.purged_event(timestamp with time zone,bigint,bigint,bigint)
app_private.notify_audit(uuid[],uuid[],uuid[])
app_private.schedule_metrics()
app_private.trail_metrics()
app_private.delivery_metrics(text[])
app_private.fault_metrics()
app_private.server_metrics()
app_private.record_failure(uuid[],text,text)
app_private.render_event(app_private.audit_event)
app_private.require_admin()
app_private.retry_delay(integer)
app_private.schedule_changed_event(timestamp with time zone,uuid,app_public.feature_flag_schedules,app_public.feature_flag_schedules,app_public.feature_flags)
app_private.schedule_created_event(timestamp with time zone,uuid,app_public.feature_flag_schedules,app_public.feature_flags)
app_private.schedule_deleted_event(timestamp with time zone,uuid,app_public.feature_flag_schedules,app_public.feature_flags)
app_private.schedule_state(app_public.feature_flag_schedules)
app_private.schedule_snapshot(app_public.feature_flag_schedules)
app_private.tg__reject_write()
app_private.tg_feature_flag_schedules__audit()
app_private.tg_feature_flag_schedules__state()
app_private.tg_feature_flag_schedules__track()
app_private.tg_feature_flags__audit()
app_private.tg_feature_flags__delete_schedules()
app_private.tg_feature_flags__stamp()
app_private.write_events(app_private.audit_event[])
app_private.attribute_event(app_private.audit_event,jsonb)
app_private.dead_letter_events(jsonb)
app_private.dead_letter_rows()
app_private.is_recorded(uuid)
app_private.write_reconciled_events(app_private.audit_event[])
app_private.replay_dead_letters(bigint,integer)
app_private.missing_revisions(uuid[],timestamp with time zone[],bigint[])
app_private.reconciled_event(app_private.audited_rows,bigint[])
app_private.write_lost_events(app_private.audit_event[])
app_private.reconcile_rows(text,uuid,timestamp with time zone,integer)
app_private.gap_event(audit.events)
app_private.reconcile_deleted_rows(text,integer)
app_private.reconciliation_due()
app_private.content_hash(jsonb)
app_private.change_problem(jsonb)
app_private.plan_problem(jsonb)
app_private.plan_content(jsonb,timestamp with time zone)
app_private.plan_steps(jsonb)
app_private.plan_state(app_public.plans)
app_private.plan_environment(app_public.plans)
app_private.plan_flag_ids(jsonb)
app_private.plan_environments(jsonb)
app_private.require_start(timestamp with time zone)
app_private.require_plan_content(jsonb)
app_private.require_title(text)
app_private.require_room_for_pending(uuid[])
app_private.require_flags_of(jsonb)
app_private.missing_flag_of(jsonb)
app_private.refuse_unknown_flag(text,text)
app_private.insert_plan(text,jsonb,text,jsonb)
app_private.lock_plan(uuid)
app_private.lock_plan_tables()
app_private.point_id(uuid,uuid,integer,timestamp with time zone)
app_private.open_point(app_public.plans)
app_private.end_point(uuid,text,text)
app_private.pause_plans_of(app_public.feature_flags)
app_private.plan_change(app_public.plans,app_public.plans)
app_private.plan_change_details(app_public.plans,app_public.plans)
app_private.plan_change_text(audit.events)
app_private.plan_event(timestamp with time zone,uuid,app_public.plans,app_public.plans)
app_private.refuse_stale_plan(app_public.plans)
app_private.plan_recorded(audit.events)
app_private.plan_found(app_public.plans)
app_private.vanished_plans()
app_private.tg_plans__state()
app_private.tg_plans__audit()
`;

/** Usage of schemas (U), and create in them (C). */
const SCHEMAS = `
schema           owner  authenticator  admin  viewer  auditor  worker  public
app_public       UC     -              U      U       U        -       -
app_private      UC     U              U      U       U        U       -
audit            UC     -              U      -       U        -       -
graphile_worker  UC     -              -      -       -        UC      -
graphile_migrate UC     -              -      -       -        -       -
public           UC     U              U      U       U        U       U
`;

function parse(table: string): Map<string, Record<Role, string>> {
  const [, ...lines] = table.trim().split('\n');
  return new Map(
    lines.map((line) => {
      const [name = '', ...cells] = line.split(/ +/);
      return [
        name,
        Object.fromEntries(ROLES.map((role, i) => [role, cells[i] ?? ''])) as Record<Role, string>,
      ];
    }),
  );
}

function roleName(role: Role): string {
  return role === 'public' ? 'public' : `halyard_${role}`;
}

const PRIVILEGES = `
  select
    case when c.relispartition then 'audit.events_YYYY_MM' else c.oid::regclass::text end as name,
    c.oid::regclass::text as table,
    coalesce(nullif(string_agg(
      case
        when has_table_privilege($1, c.oid, p.privilege) then p.letter
        when p.by_column then p.letter || '(' || nullif((
          select string_agg(a.attname, ',' order by a.attnum)
          from pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            and has_column_privilege($1, c.oid, a.attnum, p.privilege)), '') || ')'
      end, '' order by p.nr), ''), '-') as privileges
  from pg_class c
  cross join (values
    (1, 'r', 'select', true), (2, 'a', 'insert', true), (3, 'w', 'update', true), (4, 'd', 'delete', false),
    (5, 'D', 'truncate', false), (6, 'x', 'references', true), (7, 't', 'trigger', false)
  ) as p (nr, letter, privilege, by_column)
  where c.relkind in ('r', 'p', 'v', 'm', 'f')
    and c.relnamespace::regnamespace::text in ('app_public', 'app_private', 'audit')
  group by c.oid, c.relispartition`;

describe('role × table × operation', () => {
  const matrix = parse(TABLES);

  test.for(ROLES)('%s has in the catalog what the matrix says', async (role) => {
    const rows = await withActors(database, async (client) => {
      const result = await client.query<{ name: string; table: string; privileges: string }>(
        PRIVILEGES,
        [roleName(role)],
      );
      return result.rows;
    });
    for (const { name, table, privileges } of rows)
      expect
        .soft(privileges, `${role} on ${table}: change its grant, or TABLES`)
        .toBe(matrix.get(name)?.[role]);
    expect(new Set(rows.map(({ name }) => name))).toEqual(new Set(matrix.keys()));
  });

  test.for(ROLES)('%s gets by trying what the matrix says', async (role) => {
    await withActors(database, async (client) => {
      for (const [table, columns] of await columnsOf(client)) {
        await becomeAnyone(client, role);
        const name = table.replace(/_\d{4}_\d\d$/, '_YYYY_MM');
        const granted = matrix.get(name)?.[role] ?? '';
        for (const [letter, statement] of Object.entries(attempts(table, columns))) {
          const refused = (await sqlStateOf(client, () => client.query(statement))) === '42501';
          const whole = granted.replaceAll(/.\([^)]*\)/g, '');
          expect.soft(!refused, `${role}: ${statement}`).toBe(whole.includes(letter));
        }
      }
    });
  });

  test('an admin may insert and update the columns of the matrix and no other', async () => {
    await withActors(database, async (client) => {
      const columns = await columnsOf(client);
      await actAs(client, 'halyard_admin');
      for (const table of ['app_public.feature_flags', 'app_public.feature_flag_schedules']) {
        const granted = matrix.get(table)?.admin ?? '';
        for (const column of columns.get(table) ?? []) {
          const insert = `explain insert into ${table} (${column}) values (default)`;
          const update = `explain update ${table} set ${column} = default`;
          for (const [letter, statement] of [
            ['a', insert],
            ['w', update],
          ] as const) {
            const refused = (await sqlStateOf(client, () => client.query(statement))) === '42501';
            const list = new RegExp(`${letter}\\(([^)]*)\\)`).exec(granted)?.[1]?.split(',') ?? [];
            expect.soft(!refused, statement).toBe(list.includes(column));
          }
        }
      }
    });
  });
});

/** Statements that need the privilege on the whole table. EXPLAIN asks for it too, and changes nothing. */
function attempts(table: string, columns: readonly string[]): Record<string, string> {
  const all = columns.join(', ');
  return {
    r: `explain select * from ${table}`,
    a: `explain insert into ${table} (${all}) overriding system value select ${all} from ${table}`,
    w: `explain update ${table} set ${columns
      .filter((column) => column !== 'id')
      .map((column) => `${column} = default`)
      .join(', ')}`,
    d: `explain delete from ${table}`,
    D: `truncate ${table}`,
    t: `create trigger _999_try before insert on ${table} execute function pg_catalog.suppress_redundant_updates_trigger()`,
  };
}

async function columnsOf(client: pg.ClientBase): Promise<Map<string, string[]>> {
  await actAs(client, 'halyard_owner');
  const { rows } = await client.query<{ table: string; columns: string[] }>(
    `select c.oid::regclass::text as table, array_agg(a.attname::text order by a.attnum) as columns
     from pg_class c
     join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
     where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in ('app_public', 'app_private', 'audit')
     group by c.oid`,
  );
  return new Map(rows.map(({ table, columns }) => [table, columns]));
}

async function becomeAnyone(client: pg.ClientBase, role: Role): Promise<void> {
  if (role !== 'public') return actAs(client, roleName(role));
  await client.query('reset role');
  await client.query(`do $$ begin
    if to_regrole('halyard_test_anyone') is null then create role halyard_test_anyone; end if;
  end $$`);
  await actAs(client, 'halyard_test_anyone');
}

describe('functions', () => {
  const grants = new Map(
    FUNCTIONS.trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [, name = '', roles = ''] = /^(.*\)) *(.*)$/.exec(line) ?? [];
        return [name, roles === '' ? [] : roles.split(' ')];
      }),
  );

  test('each is executable by those whom the matrix names', async () => {
    const rows = await withActors(database, async (client) => {
      const result = await client.query<{ name: string; roles: Role[] }>(
        `select p.oid::regprocedure::text as name,
           array(select r from unnest($1::text[]) as r
                 where has_function_privilege(case r when 'public' then r else 'halyard_' || r end, p.oid, 'execute')) as roles
         from pg_proc p where p.pronamespace::regnamespace::text in ('app_public', 'app_private', 'audit')`,
        [ROLES.filter((role) => role !== 'owner')],
      );
      return result.rows;
    });
    const actual = Object.fromEntries(rows.map(({ name, roles }) => [name, roles.toSorted()]));
    const expected = Object.fromEntries(
      [...grants].map(([name, roles]) => [name, roles.toSorted()]),
    );
    expect(actual, 'write the function and its grants into FUNCTIONS').toEqual(expected);
  });

  test('what isn’t granted is refused when called', async () => {
    await withActors(database, async (client) => {
      for (const [signature, allowed] of grants) {
        if (signature.includes('.tg_')) continue;
        for (const role of ROLES.filter((other) => other !== 'owner' && !allowed.includes(other))) {
          await becomeAnyone(client, role);
          const types = /\((.*)\)/.exec(signature)?.[1] ?? '';
          const values =
            types === ''
              ? ''
              : types
                  .split(',')
                  .map((type) => `null::${type}`)
                  .join(', ');
          const call = `select ${signature.slice(0, signature.indexOf('('))}(${values})`;
          expect
            .soft(await sqlStateOf(client, () => client.query(call)), `${role}: ${call}`)
            .toBe('42501');
        }
      }
    });
  });
});

test('schemas: usage and create', async () => {
  const { rows } = await withActors(database, (client) =>
    client.query<{ name: string; cells: string[] }>(
      `select n.nspname::text as name,
         array(select coalesce(nullif(concat(
             case when has_schema_privilege(role, n.oid, 'usage') then 'U' end,
             case when has_schema_privilege(role, n.oid, 'create') then 'C' end), ''), '-')
           from unnest($1::text[]) with ordinality as r (role, nr) order by nr) as cells
       from pg_namespace n
       where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`,
      [ROLES.map(roleName)],
    ),
  );
  const expected = [...parse(SCHEMAS)].map(([name, cells]) => [name, Object.values(cells)]);
  expect(Object.fromEntries(rows.map(({ name, cells }) => [name, cells]))).toEqual(
    Object.fromEntries(expected),
  );
});

test('sequences are nobody’s but the owner’s', async () => {
  const { rows } = await withActors(database, (client) =>
    client.query<{ name: string }>(
      `select c.oid::regclass::text as name
       from pg_class c cross join unnest($1::text[]) as role
       where c.relkind = 'S' and c.relnamespace::regnamespace::text in ('app_public', 'app_private', 'audit')
         and has_sequence_privilege(role, c.oid, 'usage, select, update')`,
      [ROLES.filter((role) => role !== 'owner').map(roleName)],
    ),
  );
  expect(rows).toEqual([]);
});

test('roles have no rights of their own over the server, and become no others', async () => {
  await withActors(database, async (client) => {
    const roles = await client.query<{ name: string; login: boolean; inherit: boolean }>(
      `select rolname::text as name, rolcanlogin as login, rolinherit as inherit
       from pg_roles
       where rolname ~ '^halyard_(owner|authenticator|worker|admin|viewer|auditor)$'
         and not (rolsuper or rolcreaterole or rolbypassrls or rolreplication)
       order by 1`,
    );
    expect(roles.rows).toEqual([
      { name: 'halyard_admin', login: false, inherit: true },
      { name: 'halyard_auditor', login: false, inherit: true },
      { name: 'halyard_authenticator', login: true, inherit: false },
      { name: 'halyard_owner', login: true, inherit: true },
      { name: 'halyard_viewer', login: false, inherit: true },
      { name: 'halyard_worker', login: true, inherit: false },
    ]);
    const members = await client.query<{ member: string; role: string }>(
      `select member::regrole::text as member, roleid::regrole::text as role
       from pg_auth_members
       where member::regrole::text ~ '^halyard_(owner|authenticator|worker|admin|viewer|auditor)$'
         -- Slots that the server keeps free for such logins: no right to anything in it.
         and roleid::regrole::text <> 'pg_use_reserved_connections'
       order by 1, 2`,
    );
    expect(members.rows).toEqual([
      { member: 'halyard_authenticator', role: 'halyard_admin' },
      { member: 'halyard_authenticator', role: 'halyard_auditor' },
      { member: 'halyard_authenticator', role: 'halyard_viewer' },
      { member: 'halyard_owner', role: 'halyard_worker' },
    ]);
  });
});

test('only Halyard’s logins and auditors connect, and none makes temporary tables', async () => {
  const { rows } = await withActors(database, (client) =>
    client.query<{ role: string; connect: boolean; create: boolean; temporary: boolean }>(
      `select role,
         has_database_privilege(role, current_database(), 'connect') as connect,
         has_database_privilege(role, current_database(), 'create') as create,
         has_database_privilege(role, current_database(), 'temporary') as temporary
       from unnest($1::text[]) as role`,
      [ROLES.filter((role) => role !== 'owner').map(roleName)],
    ),
  );
  expect(rows.filter(({ connect }) => connect).map(({ role }) => role)).toEqual([
    'halyard_authenticator',
    'halyard_auditor',
    'halyard_worker',
  ]);
  expect(rows.filter((row) => row.create || row.temporary)).toEqual([]);
});
