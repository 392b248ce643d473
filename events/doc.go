// Package events is what may be said: the commands that functions take, the events that they say afterwards, and the
// envelope around both. It is the contract with everybody who sends or reads messages; the files in testdata are one
// sample of each type, and those in sqs the same as SQS hands them to a Lambda function, for sam local invoke.
//
// # Functions
//
// A command has a type, which is also the NATS subject that it is sent to. One function answers it.
//
//	command                              function        API call                                             outcomes
//	recompose.command.checkimages.v1     checkimages     POST /v2/{project_id}/desktops/check-images          images.checked
//	recompose.command.desktoptoimage.v1  desktoptoimage  POST /v2/{project_id}/desktops/desktop-to-image      job.accepted
//	recompose.command.rebuild.v1         rebuild         POST /v2/{project_id}/desktops/rebuild               job.accepted, job.completed, command.split
//	recompose.command.getdesktop.v1      getdesktop      GET /v2/{project_id}/desktops/{desktop_id}           desktop.described
//	(internal)                           watchjob        GET /v2/{project_id}/workspace-sub-jobs, GET images  job.completed, job.progress
//
// Each of them can say command.failed instead. Three functions also react to events, without being sent anything:
//
//   - watchjob follows the job of each job.accepted to its end;
//   - rebuild carries out the rebuild in then, once the job.completed of an image says that it succeeded;
//   - checkimages checks the desktops that the job.completed of a rebuild says were rebuilt.
//
// # Events
//
//	recompose.event.job.accepted.v1       JobAccepted       the service took a write and began a job
//	recompose.event.job.completed.v1      JobCompleted      how the job ended, or that there was nothing to do
//	recompose.event.images.checked.v1     ImagesChecked     which image each desktop runs; after a rebuild, whether it is the right one
//	recompose.event.desktop.described.v1  DesktopDescribed  all that the service tells of a desktop
//	recompose.event.command.split.v1      CommandSplit      a rebuild goes on as several commands: over 100 desktops, or refused or taken in part
//	recompose.event.command.failed.v1     CommandFailed     a command ended without doing what it asked, and what is left of it at the service
//	recompose.event.job.progress.v1       JobProgress       a notice: the sub-jobs of a job have passed 25, 50 or 75 percent
//	recompose.event.command.unclear.v1    CommandUnclear    a notice: whether the service took a call is not known, and is looked for
//	recompose.event.service.accepted.v1   ServiceAccepted   a person changed which service the deployment works on; it belongs to no chain
//	recompose.event.ledger.accepted.v1    LedgerAccepted    an operator accepts that the ledger has lost records; it answers no command
//
// # Ids
//
// Source and id together name a message. Their hash, [Identity], is the key of a command and the root of every id that
// follows from it. An id is derived from what the message is about and never from a delivery, so what is said twice has
// one id and counts once:
//
//   - job.accepted, command.split, images.checked, desktop.described and command.failed: from the command; an end that
//     no ledger record keeps (of a command that reads, or that is refused before its record) also from the digest;
//   - job.completed: from the job.accepted, or from the command where there was no job;
//   - job.progress: from the job.accepted and the percentage; command.unclear: from the command;
//   - a part of a split: from the command and its index ([PartID]);
//   - a command that an event implies: from the event and the function ([ReactionID]).
//
// The causationid of an event is the id of the command that it answers; that of a job.completed is the id of the
// job.accepted, where there is one. A notice has none: it is no answer ([IsNotice]). The correlationid is the same along
// the whole chain: the sender's, or else the id of the first command.
//
// # Digests
//
// Every event that answers a command names it: type, id, source, and the digest of its data ([Digest]). A sender may use
// an id for other data by mistake; such a command ends as id_reused, and its command.failed has its own digest. So the
// digest is what a sender compares before it takes an event for the answer to its command. Data that cannot be decoded
// has none.
//
// # How a chain ends
//
// Every command that can be read ends in exactly one of job.completed, images.checked, desktop.described, command.split
// and command.failed. What follows from that end may be a new command. The chain has ended when nothing is open; [Open]
// decides this from the events alone.
//
// # Reading and refusing
//
// [Decode] reads an envelope in structured or binary mode, or bare data. The Decode functions of the commands are
// strict, because a misspelt field of a command that wipes disks must not be overlooked: unknown fields, fields given
// twice, other letter case and wrong types are refused, all faults at once. A field that is null counts as absent.
// Events are read tolerantly, with encoding/json.
package events
