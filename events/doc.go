// Package events defines the commands that functions accept, the events that they publish, and the envelope around
// both. It is the contract with every sender and reader of messages. The files in testdata are one sample of each
// type; the files in sqs are the same samples as SQS delivers them to a Lambda function, for sam local invoke.
//
// # Functions
//
// A command has a type, which is also the NATS subject that a sender publishes it to. One function answers it.
//
//	command                              function        API call                                             outcomes
//	recompose.command.checkimages.v1     checkimages     POST /v2/{project_id}/desktops/check-images          images.checked
//	recompose.command.desktoptoimage.v1  desktoptoimage  POST /v2/{project_id}/desktops/desktop-to-image      job.accepted
//	recompose.command.rebuild.v1         rebuild         POST /v2/{project_id}/desktops/rebuild               job.accepted, job.completed, command.split
//	recompose.command.getdesktop.v1      getdesktop      GET /v2/{project_id}/desktops/{desktop_id}           desktop.described
//	recompose.command.listdesktops.v1    listdesktops    GET /v2/{project_id}/desktops/detail                 desktops.listed
//	recompose.command.listimages.v1      listimages      GET /v2/{project_id}/images                          images.listed
//	(internal)                           watchjob        GET /v2/{project_id}/workspace-sub-jobs, GET images  job.completed, job.progress
//
// The commands of a rollout have a type each, so that rights can distinguish them. The function rollout answers them, and calls no
// API: it sends commands to the other functions. A command that is not possible ends in rollout.rejected.
//
//	recompose.command.rollout.targets.v1     keeps a page of a long list of desktops               rollout.targets.kept
//	recompose.command.rollout.start.v1       plans, and begins if nothing is to be approved        rollout.planned
//	recompose.command.rollout.approve.v1     approves the plan, retry, rollback or change in force rollout.approved
//	recompose.command.rollout.pause.v1       begins no further batch                               rollout.paused
//	recompose.command.rollout.resume.v1      goes on after a pause or a halt                       rollout.resumed
//	recompose.command.rollout.promote.v1     ends the soak of a wave                               rollout.changed
//	recompose.command.rollout.exclude.v1     takes desktops out                                    rollout.changed
//	recompose.command.rollout.set.v1         changes limits or the window                          rollout.changed, rollout.planned
//	recompose.command.rollout.retry.v1       failed desktops anew                                  rollout.resumed, rollout.planned
//	recompose.command.rollout.rollback.v1    rebuilt desktops back to their own image              rollout.resumed, rollout.planned
//	recompose.command.rollout.abort.v1       ends the rollout when its batches have ended          rollout.changed
//
// Each function can publish command.failed instead. Four functions also react to events, without a command of a
// sender:
//
//   - watchjob follows the job of each job.accepted to its end;
//   - rebuild carries out the rebuild in then, once the job.completed of an image reports success;
//   - checkimages checks the desktops that the job.completed of a rebuild reports as rebuilt;
//   - rollout continues on the events of its own commands, which have the attribute rollout.
//
// # Events
//
//	recompose.event.job.accepted.v1       JobAccepted       the service accepted a write and began a job
//	recompose.event.job.completed.v1      JobCompleted      how the job ended, or that there was nothing to do
//	recompose.event.images.checked.v1     ImagesChecked     which image each desktop runs; after a rebuild, whether it is the right one
//	recompose.event.desktop.described.v1  DesktopDescribed  every field that the service returns for a desktop
//	recompose.event.desktops.listed.v1    DesktopsListed    one page of the desktops that match; the last page is the end
//	recompose.event.images.listed.v1      ImagesListed      one page of the images that match; the last page is the end
//	recompose.event.command.split.v1      CommandSplit      a rebuild continues as several commands: over 100 desktops, or refused or accepted in part
//	recompose.event.command.failed.v1     CommandFailed     a command ended without success, and what it has changed at the service
//	recompose.event.job.progress.v1       JobProgress       a notice: the sub-jobs of a job have passed 25, 50 or 75 percent
//	recompose.event.command.unclear.v1    CommandUnclear    a notice: it is not known whether the service accepted a call; a search for it has begun
//	recompose.event.service.accepted.v1   ServiceAccepted   a person changed which service the deployment uses; it belongs to no chain
//	recompose.event.ledger.accepted.v1    LedgerAccepted    an operator accepts that the ledger has lost records; it does not answer a command
//
//	recompose.event.rollout.targets.kept.v1    Rollout  a page of desktops is kept for a later start
//	recompose.event.rollout.planned.v1         Rollout  the plan, or what waits for approval, with its digest and forecast
//	recompose.event.rollout.approved.v1        Rollout  a person approved it
//	recompose.event.rollout.started.v1         Rollout  a notice: the first batch may begin
//	recompose.event.rollout.wave.started.v1    Rollout  a notice
//	recompose.event.rollout.batch.completed.v1 Rollout  a notice: how each desktop of a batch ended
//	recompose.event.rollout.wave.completed.v1  Rollout  a notice
//	recompose.event.rollout.paused.v1          Rollout  no further batch begins
//	recompose.event.rollout.resumed.v1         Rollout  it goes on
//	recompose.event.rollout.halted.v1          Rollout  a notice: it stopped by itself, and waits for a person
//	recompose.event.rollout.changed.v1         Rollout  a limit, the window, the desktops or a soak were changed; it is being aborted; a verb no longer waits for approval
//	recompose.event.rollout.aborted.v1         Rollout  the end: it was aborted
//	recompose.event.rollout.rolled_back.v1     Rollout  the end: desktops are back on their own image
//	recompose.event.rollout.completed.v1       Rollout  the end: nothing is left to do
//	recompose.event.rollout.rejected.v1        Rollout  the command was not possible and changed nothing
//
// Each event of a rollout has a revision, and the highest shows how the rollout stands. Its chain is the correlation id of the
// start command; the answer of another command has that command's own correlation id.
//
// # Ids
//
// Source and id together name a message. Their hash, [Identity], is the key of a command and the root of every id
// that is derived from it. An id is derived from what the message is about and never from a delivery, so a message that
// is published twice has the same id both times and counts once:
//
//   - job.accepted, command.split, command.failed and the answer of a command that only reads: from the command; an end
//     that no ledger record keeps (of a command that reads, or that is refused before its record) also from the digest;
//   - job.completed: from the job.accepted, or from the command where there was no job;
//   - an answer in pages: the last page from the command and the digest; an earlier page also from its number;
//   - job.progress: from the job.accepted and the percentage; command.unclear: from the command;
//   - events of a rollout: from its start command and the revision, those of a batch from batch and attempt; the answer of a
//     command without a rollout from the command and its digest;
//   - a part of a split: from the command and its index ([PartID]);
//   - a command that an event implies: from the event and the function ([ReactionID]).
//
// The causationid of an event is the id of the command that it answers; that of a job.completed is the id of the
// job.accepted, if there is one; that of the end of a rollout is derived from its start command ([RolloutEnd]). A notice has no causationid, because it does not answer anything ([IsNotice]); nor has
// a page of a list before the last one. The correlationid is the same along the whole chain: the one that the sender set,
// or else the id of the first command. So is the extension attribute rollout ([RolloutRef]), which only the commands of
// a rollout have.
//
// # Digests
//
// Every event that answers a command names it: type, id, source, and the digest of its data ([Digest]). A sender may
// reuse an id for other data by mistake; such a command ends as id_reused, and its command.failed has the digest of
// its own data. A sender therefore compares the digest before it accepts an event as the answer to its command. Data
// that cannot be decoded has no digest.
//
// # How a chain ends
//
// Every readable command ends in exactly one event: job.completed, command.split, command.failed, or the answer of a
// command that only reads (of several pages the one with last true); a command of a rollout in an event of the rollout. That end may imply a new command, and a rollout.planned that the rollout follows. The chain has ended when nothing is
// open; [Open] decides this from the events alone.
//
// # Reading and refusing
//
// [Decode] reads an envelope in structured or binary mode, or bare data. The Decode functions of the commands are
// strict, because a misspelt field of a command that wipes disks must not be overlooked: unknown fields, fields given
// twice, other letter case and wrong types are refused, all faults at once. A field that is null counts as absent.
// Events are read tolerantly, with encoding/json.
package events
