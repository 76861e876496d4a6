using Docker.DotNet.Models;
using GpuTasks.Nodes;

namespace GpuTasks.Containers;

/// <summary>Adds up the thousands of small steps that the engine tells of a pull, layer by layer.</summary>
/// <param name="progress">Told each time the sum has changed.</param>
internal sealed class PullSteps(Action<PullProgress> progress) : IProgress<JSONMessage>
{
    private readonly Dictionary<string, (bool Done, long Bytes, long Total)> layers = new(StringComparer.Ordinal);
    private PullProgress last = new(0, 0, 0, 0);

    /// <summary>What went wrong, in the engine's words; null if nothing did.</summary>
    public string? Error { get; private set; }

    /// <inheritdoc />
    public void Report(JSONMessage value)
    {
        Error = value.Error?.Message ?? Error;
        if (value.ID is not { Length: > 0 } id || Step(layers.GetValueOrDefault(id), value) is not { } layer)
        {
            return;
        }

        layers[id] = layer;
        var sum = new PullProgress(
            layers.Count,
            layers.Values.Count(known => known.Done),
            layers.Values.Sum(known => known.Bytes),
            layers.Values.Sum(known => known.Total));
        if (sum != last)
        {
            last = sum;
            progress(sum);
        }
    }

    /// <summary>What a step makes of its layer; null for steps that concern none, such as the one that names the tag.</summary>
    private static (bool Done, long Bytes, long Total)? Step((bool Done, long Bytes, long Total) layer, JSONMessage step) => step.Status switch
    {
        "Pulling fs layer" or "Waiting" or "Retrying" => layer,
        "Downloading" => (false, step.Progress?.Current ?? layer.Bytes, Math.Max(layer.Total, step.Progress?.Total ?? 0)),
        "Verifying Checksum" or "Download complete" or "Extracting" => layer with { Bytes = layer.Total },
        "Pull complete" => (true, layer.Total, layer.Total),
        "Already exists" => layer with { Done = true },
        _ => null,
    };
}
