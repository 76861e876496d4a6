using Orleans.Storage;

namespace GpuTasks.Store;

/// <summary>What a grain storage can do beside <see cref="IGrainStorage"/>: write many new rows as one piece of work.</summary>
public interface INewRows
{
    /// <summary>Writes rows that must not be there yet. Each stands alone, as with a write of its own.</summary>
    /// <typeparam name="T">State.</typeparam>
    /// <param name="stateName">State name.</param>
    /// <param name="rows">Rows; those that are written get their ETag.</param>
    /// <returns>For each row what its own write would have thrown, or null if it was written.</returns>
    Task<IReadOnlyList<Exception?>> AddAsync<T>(string stateName, IReadOnlyList<(GrainId Id, IGrainState<T> Row)> rows);
}
