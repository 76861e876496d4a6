using GpuTasks.Store;
using Orleans.Storage;

namespace GpuTasks.Storage;

/// <summary>The Orleans storage provider with large parts of states kept beside their rows.</summary>
internal class BlobStorage(IGrainStorage provider, BlobParts parts) : IGrainStorage
{
    private const int ReadsAgain = 3;

    protected BlobParts Parts { get; } = parts;

    public Task ReadStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState) =>
        ReadStateAsync(stateName, grainId, grainState, CancellationToken.None);

    public async Task ReadStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState, CancellationToken cancellationToken)
    {
        for (var i = 0; i < ReadsAgain; i++)
        {
            await provider.ReadStateAsync(stateName, grainId, grainState, cancellationToken);
            if (await Parts.JoinAsync(grainId.Key.ToString()!, grainState, cancellationToken))
            {
                return;
            }
        }

        throw new StoreUnavailableException($"A part of the row of {grainId} is not in the store.");
    }

    public Task ClearStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState) =>
        provider.ClearStateAsync(stateName, grainId, grainState);

    public Task ClearStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState, CancellationToken cancellationToken) =>
        provider.ClearStateAsync(stateName, grainId, grainState, cancellationToken);

    public Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState) =>
        WriteStateAsync(stateName, grainId, grainState, CancellationToken.None);

    public virtual async Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState, CancellationToken cancellationToken)
    {
        var (state, blobs) = Parts.Split(grainId.Key.ToString()!, grainState.State);
        if (ReferenceEquals(state, grainState.State))
        {
            await provider.WriteStateAsync(stateName, grainId, grainState, cancellationToken);
            return;
        }

        // First the blobs, so that no row ever names one that is not there. Should the row be refused, they go with the purge of their key.
        await Parts.WriteAloneAsync(blobs, cancellationToken);
        var row = new GrainState<T>(state!, grainState.ETag) { RecordExists = grainState.RecordExists };
        await provider.WriteStateAsync(stateName, grainId, row, cancellationToken);
        (grainState.ETag, grainState.RecordExists) = (row.ETag, row.RecordExists);
        Parts.Written(blobs);
    }
}
