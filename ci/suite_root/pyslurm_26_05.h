/* Lets pyslurm 25.11 be built against Slurm 26.05, of which no release of its own exists on PyPI yet.
 *
 * In 26.05 the calls on a job take a slurm_step_id_t where 25.11 took the job's number. This stands at the end of a copy
 * of slurm/slurm.h that says it were 25.11. */
#ifndef PYSLURM_26_05_H
#define PYSLURM_26_05_H
static inline slurm_step_id_t of_job(uint32_t job_id)
{
	slurm_step_id_t step = SLURM_STEP_ID_INITIALIZER;
	step.job_id = job_id;
	return step;
}
static inline int job_of_pid(pid_t pid, uint32_t *job_id)
{
	slurm_step_id_t step = SLURM_STEP_ID_INITIALIZER;
	int status = slurm_pid2jobid(pid, &step);
	*job_id = step.job_id;
	return status;
}
#define slurm_pid2jobid                      job_of_pid
#define slurm_free_ctl_conf                  slurm_free_conf
#define slurm_load_job(answer, job, flags)   slurm_load_job((answer), of_job(job), (flags))
#define slurm_kill_job(job, signal, flags)   slurm_kill_job(of_job(job), (signal), (flags))
#define slurm_suspend(job)                   slurm_suspend(of_job(job))
#define slurm_resume(job)                    slurm_resume(of_job(job))
#define slurm_requeue(job, flags)            slurm_requeue(of_job(job), (flags))
#define slurm_notify_job(job, message)       slurm_notify_job(of_job(job), (message))
#define slurm_get_end_time(job, end)         slurm_get_end_time(of_job(job), (end))
#define slurm_get_rem_time(job)              slurm_get_rem_time(of_job(job))
#define slurm_job_node_ready(job)            slurm_job_node_ready(of_job(job))
#define ESLURM_ERROR_ON_DESC_TO_RECORD_COPY  2070 /* gone in 26.05; its value is not used */
#endif
