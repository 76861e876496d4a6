using System.Globalization;
using System.Runtime.CompilerServices;
using GpuTasks.Store;
using Orleans.Storage;

namespace GpuTasks.Storage;

/// <summary>
/// The Orleans storage provider with its writes committed in groups. Same table, same versions: reads and clears are the
/// provider's own, and rows written by either are the other's too.
/// </summary>
internal sealed class GroupCommitStorage(IGrainStorage provider, BlobParts parts, GroupCommitter committer, SystemTextJsonStorageSerializer serializer)
    : BlobStorage(provider, parts), INewRows
{
    // What the last write of an activation put into the index, and under which ETag. Goes with the activation.
    private readonly ConditionalWeakTable<object, Written> written = [];

    public override async Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState, CancellationToken cancellationToken)
    {
        if (!IsKeptByText(stateName, grainId))
        {
            await base.WriteStateAsync(stateName, grainId, grainState, cancellationToken);
            return;
        }

        var row = RowOf(stateName, grainId, grainState, group: null);

        // The token guards the wait for a place in the queue. From then on the write runs to its end.
        var done = await committer.EnqueueAsync(row, cancellationToken);
        if (await done is not { } version)
        {
            throw Lost(grainId, grainState.ETag);
        }

        Finish(grainState, row, version);
        written.AddOrUpdate(grainState, new Written(grainState.ETag!, row.Index));
    }

    public async Task<IReadOnlyList<Exception?>> AddAsync<T>(string stateName, IReadOnlyList<(GrainId Id, IGrainState<T> Row)> rows)
    {
        var faults = new Exception?[rows.Count];
        var writes = new RowWrite?[rows.Count];
        var group = new RowGroup(rows.Count);
        for (var i = 0; i < rows.Count; i++)
        {
            try
            {
                writes[i] = IsKeptByText(stateName, rows[i].Id)
                    ? RowOf(stateName, rows[i].Id, rows[i].Row, group)
                    : throw new ArgumentException($"The row of {rows[i].Id} cannot be written together with others.", nameof(rows));
            }
            catch (ArgumentException e)
            {
                faults[i] = e;
                group.FinishOne();
            }
        }

        await committer.EnqueueAsync([.. writes.OfType<RowWrite>()]);
        await group.Done;
        for (var i = 0; i < rows.Count; i++)
        {
            if (writes[i] is { NewVersion: { } version } write)
            {
                Finish(rows[i].Row, write, version);
            }
            else
            {
                faults[i] ??= writes[i]!.Fault ?? Lost(rows[i].Id, rows[i].Row.ETag);
            }
        }

        return faults;
    }

    private RowWrite RowOf<T>(string stateName, GrainId grainId, IGrainState<T> grainState, RowGroup? group)
    {
        var key = grainId.Key.ToString()!;
        var index = (grainState.State as IIndexed)?.Index;
        if (!IsText(key) || (index is not null && !IsText(index)))
        {
            throw new ArgumentException($"The row of {grainId} holds characters that a database cannot store in a key.", nameof(grainId));
        }

        var etag = grainState.ETag;
        var (state, blobs) = Parts.Split(key, grainState.State);
        return new RowWrite(
            stateName,
            key,
            string.IsNullOrEmpty(etag) ? null : int.Parse(etag, CultureInfo.InvariantCulture),
            serializer.SerializeWithoutIndex(state),
            index,
            written.TryGetValue(grainState, out var last) && last.ETag == etag && last.Index == index,
            blobs,
            group);
    }

    private void Finish<T>(IGrainState<T> grainState, RowWrite row, int version)
    {
        grainState.ETag = version.ToString(CultureInfo.InvariantCulture);
        grainState.RecordExists = true;
        Parts.Written(row.Blobs);
    }

    private static InconsistentStateException Lost(GrainId grainId, string? etag) =>
        new($"The row of {grainId} is not at version {etag ?? "none"}: another activation wrote it.", "unknown", etag ?? "");

    /// <summary>
    /// The provider stores a key that reads as a number or GUID in number columns, and shortens a state name that looks like
    /// a type name. Those rows are left to it.
    /// </summary>
    private static bool IsKeptByText(string stateName, GrainId grainId) =>
        stateName.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_')
        && !grainId.TryGetIntegerKey(out _, out _)
        && !grainId.TryGetGuidKey(out _, out _);

    private static bool IsText(IndexColumns index) =>
        IsText(index.Account) && IsText(index.Function) && IsText(index.TaskId) && IsText(index.Qualifier) && IsText(index.Line) && IsText(index.Status);

    private static bool IsText(string? text) => text is null || KeyRange.IsPossible(text);

    private sealed record Written(string ETag, IndexColumns? Index);
}
