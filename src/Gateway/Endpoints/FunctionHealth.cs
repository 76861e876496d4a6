using System.Globalization;
using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>
/// Whether a definition can run, as its instances show it: images are fetched where and when an instance starts, so a function that
/// nobody calls is Active. What concerns a changed definition is told as the state of its update (contract 1.3).
/// </summary>
/// <param name="State"><c>Active</c>, <c>Pending</c> or <c>Failed</c>.</param>
/// <param name="Code">Reason as a code, or empty.</param>
/// <param name="Reason">Reason in words, or empty.</param>
internal sealed record FunctionHealth(string State, string Code, string Reason)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    public static FunctionHealth Active { get; } = new("Active", "", "");

    /// <summary>Asks the definition's queue; without an answer nothing is known against it.</summary>
    public static async Task<FunctionHealth> AskAsync(ApiCall call, FunctionSnapshot function)
    {
        try
        {
            var queue = call.Grains.GetGrain<IDispatcherGrain>(function.Definition.ToString());
            return Of(function, await queue.GetStatus(call.Aborted).WaitAsync(Patience, call.Aborted));
        }
        catch (Exception e) when (e is not OperationCanceledException || !call.Aborted.IsCancellationRequested)
        {
            return Active;
        }
    }

    public static FunctionHealth Of(FunctionSnapshot function, DispatcherStatus status)
    {
        var instances = status.Instances.Where(instance => instance.Revision == function.SpecRevision).ToList();
        return instances.Exists(instance => instance.State is InstanceState.Ready) ? Active
            : instances.Find(instance => instance.PullingImage) is { } pulling
                ? new FunctionHealth("Pending", "Creating", $"Node '{pulling.Node}' fetches image '{function.Spec.Container.Image}' since {FunctionJson.Time(pulling.CreatedAt)}{Progress(pulling.Pull)}.")
            : status.LastFailure is { Outcome: RunOutcome.ImageError or RunOutcome.InitializerError } failure
                ? new FunctionHealth("Failed", failure.Outcome.ToString(), failure.Message)
            : Active;
    }

    private static string Progress(PullProgress? pull) => pull is not { Layers: > 0 } ? ""
        : string.Create(CultureInfo.InvariantCulture, $": {pull.LayersDone} of {pull.Layers} layers are there, {pull.Bytes >> 20} of {pull.TotalBytes >> 20} MiB of those whose size is known are fetched");

    public void Write(Utf8JsonWriter json, FunctionSnapshot function)
    {
        // A version never changes, so it has no update either.
        var isUpdate = function.Version is null && function.ModifiedAt != function.CreatedAt;
        Write(json, "state", "stateReason", isUpdate ? Active : this, State);
        Write(json, "lastUpdateStatus", "lastUpdateStatusReason", isUpdate ? this : Active, State switch
        {
            "Pending" => "InProgress",
            "Failed" => "Failed",
            _ => "Successful",
        });

        static void Write(Utf8JsonWriter json, string name, string reasonName, FunctionHealth health, string state)
        {
            json.WriteString(name, health == Active ? name == "state" ? "Active" : "Successful" : state);
            if (health.Reason.Length > 0)
            {
                json.WriteString(reasonName, health.Reason);
                json.WriteString($"{reasonName}Code", health.Code);
            }
        }
    }
}
