using System.Text.Json;

namespace GpuTasks.Demo;

/// <summary>What the demonstration shows of a task.</summary>
internal sealed record TaskRecord(string Id, string Status, TimeSpan? Queued, TimeSpan Ran, string Instance, string Error, string Result)
{
    /// <summary>Whether nothing will change any more.</summary>
    public bool IsFinal => Status is "Succeeded" or "Failed" or "Stopped" or "Expired" or "Invalid";

    /// <summary>Whether it has a place on an instance.</summary>
    public bool IsRunning => Status is "Running" or "Stopping";

    /// <summary>Reads the contract's AsyncTask.</summary>
    public static TaskRecord Read(JsonElement task)
    {
        var accepted = Number(task, "startedTime");
        long? running = null;
        if (task.TryGetProperty("events", out var events) && events.ValueKind == JsonValueKind.Array)
        {
            foreach (var happened in events.EnumerateArray().Where(e => Text(e, "status") == "Running"))
            {
                running ??= Number(happened, "timestamp");
            }
        }

        return new TaskRecord(
            Text(task, "taskId"),
            Text(task, "status"),
            running is { } at ? TimeSpan.FromMilliseconds(at - accepted) : null,
            TimeSpan.FromMilliseconds(Number(task, "durationMs")),
            Text(task, "instanceId"),
            Text(task, "taskErrorMessage"),
            Text(task, "returnPayload"));
    }

    private static string Text(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";

    private static long Number(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetInt64() : 0;
}

/// <summary>The example function's own answer.</summary>
internal sealed record SpeechAnswer(string Transcript, double AudioSeconds, double DecodeSeconds)
{
    /// <summary>Reads it, or null when it is something else.</summary>
    public static SpeechAnswer? Read(string json)
    {
        try
        {
            using var document = JsonDocument.Parse(json);
            var root = document.RootElement;
            return new SpeechAnswer(
                root.GetProperty("transcript").GetString() ?? "",
                root.GetProperty("audioSeconds").GetDouble(),
                root.GetProperty("decodeSeconds").GetDouble());
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return null;
        }
    }
}
