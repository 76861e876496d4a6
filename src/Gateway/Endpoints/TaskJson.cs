using System.Text;
using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>Tasks as the contract writes them (2.3), and in full for <c>/v1</c>.</summary>
internal static class TaskJson
{
    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The contract's AsyncTask. Strings are always strings and numbers numbers, since clients throw otherwise.</summary>
    public static void WriteTask(Utf8JsonWriter json, TaskSnapshot task, GatewayOptions options)
    {
        json.WriteStartObject();
        json.WriteString("taskId", task.Key.TaskId);
        json.WriteString("requestId", task.RequestId);
        json.WriteString("functionArn", Arn.Function(options, task.Key.Account, task.Key.Function, task.Qualifier));
        json.WriteString("qualifier", task.Qualifier);
        json.WriteString("status", task.Status.ToString());
        json.WriteNumber("startedTime", task.EnqueuedAt.ToUnixTimeMilliseconds());
        json.WriteNumber("endTime", task.EndedAt?.ToUnixTimeMilliseconds() ?? 0);
        json.WriteNumber("durationMs", (long)task.Duration.TotalMilliseconds);
        json.WriteString("instanceId", task.InstanceId);
        json.WriteNumber("alreadyRetriedTimes", task.Retries);
        WritePayload(json, "taskPayload", task.Payload);
        WritePayload(json, "returnPayload", task.Result);
        json.WriteString("taskErrorMessage", task.ErrorMessage);
        json.WriteString("destinationStatus", task.DestinationStatus);
        json.WriteStartArray("events");
        foreach (var e in task.Events)
        {
            json.WriteStartObject();
            json.WriteNumber("eventId", e.EventId);
            json.WriteString("status", e.Status.ToString());
            json.WriteNumber("timestamp", e.At.ToUnixTimeMilliseconds());
            json.WriteString("eventDetail", e.Detail);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>All that is known of a task, and of a waiting one, why it waits.</summary>
    public static void WriteFull(Utf8JsonWriter json, TaskSnapshot task, WaitView? wait)
    {
        json.WriteStartObject();
        json.WriteString("taskId", task.Key.TaskId);
        json.WriteString("function", task.Key.Function);
        json.WriteString("qualifier", task.Qualifier);
        json.WriteString("requestId", task.RequestId);
        json.WriteString("status", task.Status.ToString());
        json.WriteBoolean("final", task.Status.IsFinal());
        WriteTime(json, "enqueuedAt", task.EnqueuedAt);
        WriteTime(json, "runStartedAt", task.RunStartedAt);
        WriteTime(json, "endedAt", task.EndedAt);
        WriteTime(json, "contactLostSince", task.ContactLostSince);
        json.WriteNumber("priority", task.Priority);
        TaskWait.Write(json, wait);
        json.WriteNumber("durationMs", (long)task.Duration.TotalMilliseconds);
        json.WriteNumber("attempt", task.Attempt);
        json.WriteNumber("retries", task.Retries);
        json.WriteNumber("platformFaults", task.PlatformFaults);
        json.WriteString("instanceId", task.InstanceId);
        json.WriteString("node", task.Node);
        json.WriteString("outcome", task.Outcome?.ToString());
        json.WriteString("errorMessage", task.ErrorMessage);
        json.WriteString("destinationStatus", task.DestinationStatus);
        WriteDelivery(json, task.Delivery);
        WriteBytes(json, "payload", task.Payload);
        WriteBytes(json, "result", task.Result);
        json.WriteNumber("resultBytes", task.ResultBytes);
        json.WriteBoolean("resultTruncated", task.ResultTruncated);
        json.WriteStartArray("events");
        foreach (var e in task.Events)
        {
            json.WriteStartObject();
            json.WriteNumber("eventId", e.EventId);
            json.WriteString("status", e.Status.ToString());
            WriteTime(json, "at", e.At);
            json.WriteString("detail", e.Detail);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteDelivery(Utf8JsonWriter json, DeliveryView? delivery)
    {
        if (delivery is null)
        {
            json.WriteNull("delivery");
            return;
        }

        json.WriteStartObject("delivery");
        json.WriteString("deliveryId", delivery.DeliveryId);
        json.WriteString("destination", delivery.Target);
        json.WriteNumber("attempts", delivery.Attempts);
        json.WriteString("reason", delivery.Fault);
        WriteTime(json, "nextAt", delivery.NextAt);
        json.WriteEndObject();
    }

    /// <summary>Milliseconds since the epoch, as everywhere with tasks; null while it has not come.</summary>
    public static void WriteTime(Utf8JsonWriter json, string name, DateTimeOffset? time)
    {
        if (time is { } at)
        {
            json.WriteNumber(name, at.ToUnixTimeMilliseconds());
        }
        else
        {
            json.WriteNull(name);
        }
    }

    /// <summary>The contract has a string here: text as it is, and bytes that are no text as base64.</summary>
    private static void WritePayload(Utf8JsonWriter json, string name, byte[]? bytes)
    {
        if (bytes is not null)
        {
            json.WriteString(name, TextOf(bytes) ?? Convert.ToBase64String(bytes));
        }
    }

    /// <summary>Text under the name itself, other bytes under the name with <c>Base64</c>, so that readers can tell.</summary>
    private static void WriteBytes(Utf8JsonWriter json, string name, byte[]? bytes)
    {
        if (bytes is null)
        {
            json.WriteNull(name);
        }
        else if (TextOf(bytes) is { } text)
        {
            json.WriteString(name, text);
        }
        else
        {
            json.WriteBase64String($"{name}Base64", bytes);
        }
    }

    private static string? TextOf(byte[] bytes)
    {
        try
        {
            return Strict.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            return null;
        }
    }
}
