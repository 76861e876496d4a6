using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>Why a task waits: asked for beside its record, and no reason to keep the record back.</summary>
internal static class TaskWait
{
    public static async Task<WaitView> ReadAsync(ApiCall call, TaskSnapshot task)
    {
        WaitView wait;
        try
        {
            wait = await call.InTimeAsync(call.Grains.GetGrain<IDispatcherGrain>(new DefinitionKey(task.Key.Account, task.Key.Function, task.Version).ToString())
                .Explain(new Ticket(task.Key.TaskId, task.Priority, task.EnqueuedAt), call.Aborted));
        }
        catch (Exception fault) when (fault is TimeoutException or OrleansException)
        {
            wait = new WaitView { Reason = TaskWaitReason.Unknown, Detail = "The function's queue does not answer just now.", EstimateBasis = "The function's queue does not answer just now." };
        }

        return task.Status is not GpuTaskStatus.Retrying ? wait : wait with
        {
            Reason = TaskWaitReason.Backoff,
            Detail = $"Attempt {task.Attempt} failed ({task.Outcome}); the next may begin at {task.RetryAt:u}.",
            EstimatedStart = wait.EstimatedStart < task.RetryAt ? task.RetryAt : wait.EstimatedStart,
        };
    }

    /// <summary>Null for a task that does not wait; of an amount that is not short, 0.</summary>
    public static void Write(Utf8JsonWriter json, WaitView? wait)
    {
        if (wait is null)
        {
            json.WriteNull("wait");
            return;
        }

        json.WriteStartObject("wait");
        json.WriteString("reason", wait.Reason.ToString());
        json.WriteString("detail", wait.Detail);
        json.WriteStartObject("short");
        json.WriteNumber("milliCards", wait.Missing.MilliCards);
        json.WriteNumber("gpuMemoryMiB", wait.Missing.GpuMiB);
        json.WriteNumber("cards", wait.Missing.Cards);
        json.WriteNumber("cpuMilli", wait.Missing.CpuMilli);
        json.WriteNumber("memoryMiB", wait.Missing.MemoryMiB);
        json.WriteNumber("diskMiB", wait.Missing.DiskMiB);
        json.WriteEndObject();
        WriteRank(json, "rank", wait.Rank);
        WriteRank(json, "functionRank", wait.FunctionRank);
        TaskJson.WriteTime(json, "estimatedStartAt", wait.EstimatedStart);
        json.WriteString("estimateBasis", wait.EstimateBasis);
        json.WriteEndObject();
    }

    private static void WriteRank(Utf8JsonWriter json, string name, long rank)
    {
        if (rank > 0)
        {
            json.WriteNumber(name, rank);
        }
        else
        {
            json.WriteNull(name);
        }
    }
}
