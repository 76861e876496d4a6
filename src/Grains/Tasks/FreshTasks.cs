namespace GpuTasks.Tasks;

/// <summary>
/// The newest rows that this silo made, so that a task which starts at once needs no read. Another silo may have changed a
/// row since: whoever takes one believes it only once a write with its ETag has come through.
/// </summary>
public sealed class FreshTasks
{
    private const int MaxRows = 4_096;
    private const int MaxPayloadBytes = 4_096;

    private readonly Dictionary<string, IGrainState<TaskState>> rows = new(StringComparer.Ordinal);
    private readonly Queue<string> order = [];
    private readonly Lock gate = new();

    /// <summary>Keeps a row that was just written, in place of the oldest if there are too many. Large ones are not kept.</summary>
    /// <param name="key">Key of the task's grain.</param>
    /// <param name="row">State and ETag; not to be used by the caller any more.</param>
    public void Add(string key, IGrainState<TaskState> row)
    {
        if (row.State is not { Submission.Payload.Length: <= MaxPayloadBytes })
        {
            return;
        }

        lock (gate)
        {
            rows[key] = row;
            order.Enqueue(key);
            if (order.Count > MaxRows)
            {
                rows.Remove(order.Dequeue());
            }
        }
    }

    /// <summary>Gives a row away.</summary>
    /// <param name="key">Key of the task's grain.</param>
    /// <returns>Null if it is not here.</returns>
    public IGrainState<TaskState>? Take(string key)
    {
        lock (gate)
        {
            return rows.Remove(key, out var row) ? row : null;
        }
    }
}
